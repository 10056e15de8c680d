/* The version of a build, given by the compiler: PROBE_VERSION. */
const char *probe_version(void);
unsigned probe_sum(void);
