/* probed: a service with a mapped library, an open file of its package and open connections. Each line that a client
 * sends is answered with the versions of program, library, unit and file. One process for each connection. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.h"

static void answer(int client, int data)
{
    char line[256], first[16];
    const char *unit = getenv("PROBE_UNIT");
    while (read(client, line, sizeof line) > 0) {
        ssize_t length = pread(data, first, sizeof first - 1, 0);
        first[length > 0 ? length : 0] = 0;
        first[strcspn(first, "\n")] = 0;
        dprintf(client, "program %s library %s sum %u unit %s file %s\n", PROBE_VERSION, probe_version(), probe_sum(),
                unit ? unit : "none", first);
    }
    _exit(0);
}

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7070), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, data = open("/usr/share/probe/data", O_RDONLY), door = socket(AF_INET, SOCK_STREAM, 0);
    signal(SIGCHLD, SIG_IGN);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (data < 0 || bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 16))
        return perror("probed"), 1;
    for (;;) {
        int client = accept(door, NULL, NULL);
        if (client < 0)
            continue;
        if (fork() == 0)
            answer(client, data);
        close(client);
    }
}
