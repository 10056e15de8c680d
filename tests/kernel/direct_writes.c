/* direct_writes ENGINE FILE: writes FILE by asynchronous direct writes while threads read it through the page cache; after each
 * round every block must read as written. ENGINE is libaio or io_uring. Exit 0: so it is; 1: a stale block, named; 77: the
 * kernel does not let us use the engine. Only system calls: no library of either engine is needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 64, ROUNDS = 150, READERS = 3 };

static const char *path;
static atomic_int over;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void *reader(void *unused)
{
	char block[BLOCK];
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		die("open for reading");
	for (unsigned at = 0; !over; at++)
		if (pread(fd, block, BLOCK, (off_t)(at % BLOCKS) * BLOCK) < 0)
			die("pread");
	close(fd);
	return unused;
}

static aio_context_t aio;

static void aio_round(int fd, char *data)
{
	static struct iocb blocks[BLOCKS];
	struct iocb *all[BLOCKS];
	struct io_event events[BLOCKS];
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd,
			.aio_buf = (unsigned long)(data + i * BLOCK), .aio_nbytes = BLOCK, .aio_offset = (long)i * BLOCK };
		all[i] = &blocks[i];
	}
	if (syscall(SYS_io_submit, aio, (long)BLOCKS, all) != BLOCKS)
		die("io_submit");
	if (syscall(SYS_io_getevents, aio, (long)BLOCKS, (long)BLOCKS, events, NULL) != BLOCKS)
		die("io_getevents");
	for (int i = 0; i < BLOCKS; i++)
		if (events[i].res != BLOCK)
			die("a write of libaio");
}

static int ring;
static struct io_uring_sqe *entries;
static struct io_uring_cqe *answers;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_mask;

static int ring_start(void)
{
	struct io_uring_params how = { 0 };
	ring = (int)syscall(SYS_io_uring_setup, BLOCKS, &how);
	if (ring < 0)
		return 0;
	size_t sq_len = how.sq_off.array + how.sq_entries * sizeof(unsigned);
	size_t cq_len = how.cq_off.cqes + how.cq_entries * sizeof(struct io_uring_cqe);
	char *sq = mmap(NULL, sq_len, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(NULL, cq_len, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	entries = mmap(NULL, how.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
		die("mmap of the ring");
	sq_tail = (unsigned *)(sq + how.sq_off.tail);
	sq_mask = (unsigned *)(sq + how.sq_off.ring_mask);
	sq_array = (unsigned *)(sq + how.sq_off.array);
	cq_head = (unsigned *)(cq + how.cq_off.head);
	cq_mask = (unsigned *)(cq + how.cq_off.ring_mask);
	answers = (struct io_uring_cqe *)(cq + how.cq_off.cqes);
	return 1;
}

static void ring_round(int fd, char *data)
{
	unsigned tail = *sq_tail;
	for (int i = 0; i < BLOCKS; i++, tail++) {
		unsigned slot = tail & *sq_mask;
		entries[slot] = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = fd, .off = (unsigned long)i * BLOCK,
			.addr = (unsigned long)(data + i * BLOCK), .len = BLOCK };
		sq_array[slot] = slot;
	}
	__atomic_store_n(sq_tail, tail, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, BLOCKS, BLOCKS, IORING_ENTER_GETEVENTS, NULL, 0) != BLOCKS)
		die("io_uring_enter");
	for (int i = 0; i < BLOCKS; i++)
		if (answers[(*cq_head + (unsigned)i) & *cq_mask].res != BLOCK)
			die("a write of io_uring");
	__atomic_store_n(cq_head, *cq_head + BLOCKS, __ATOMIC_RELEASE);
}

int main(int count, char **words)
{
	if (count != 3)
		return 2;
	int uring = !strcmp(words[1], "io_uring");
	path = words[2];
	if (uring ? !ring_start() : syscall(SYS_io_setup, BLOCKS, &aio) < 0)
		return 77;
	int fd = open(path, O_RDWR | O_DIRECT);
	if (fd < 0)
		die("open O_DIRECT");
	char *data = mmap(NULL, BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		die("mmap");
	pthread_t readers[READERS];
	for (int i = 0; i < READERS; i++)
		if (pthread_create(&readers[i], NULL, reader, NULL))
			die("pthread_create");
	int check = open(path, O_RDONLY), stale = 0;
	for (int round = 1; round <= ROUNDS && !stale; round++) {
		memset(data, round, BLOCKS * BLOCK);
		if (uring)
			ring_round(fd, data);
		else
			aio_round(fd, data);
		for (int i = 0; i < BLOCKS && !stale; i++) {
			unsigned char block[BLOCK];
			if (pread(check, block, BLOCK, (off_t)i * BLOCK) != BLOCK)
				die("pread of a block");
			stale = block[0] != (unsigned char)round;
			if (stale)
				printf("round %d, block %d: reads as of round %d\n", round, i, block[0]);
		}
	}
	over = 1;
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	return stale;
}
