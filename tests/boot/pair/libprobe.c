/* libprobe.so.1: a version, and a table that is read anew for each answer. */
#include "probe.h"

__asm__(".section .rodata\n.global probe_table\nprobe_table:\n.incbin \"table\"\n.global probe_end\nprobe_end:\n.byte 0\n.previous");
extern const volatile unsigned char probe_table[] __attribute__((visibility("hidden")));
extern const volatile unsigned char probe_end[] __attribute__((visibility("hidden")));

const char *probe_version(void)
{
    return PROBE_VERSION;
}

unsigned probe_sum(void)
{
    unsigned sum = 1;
    for (const volatile unsigned char *at = probe_table; at < probe_end; at++)
        sum = sum * 31 + *at;
    return sum;
}
