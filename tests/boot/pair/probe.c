/* probe: tells its version and its library's. */
#include <stdio.h>

#include "probe.h"

int main(void)
{
    printf("program %s library %s sum %u\n", PROBE_VERSION, probe_version(), probe_sum());
    return 0;
}
