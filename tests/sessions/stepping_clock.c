/* Preloaded: the time of day is off by as many seconds as the file $CLOCK_STEP says, at every call anew; the monotonic
   clock is the machine's own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    const char *path = getenv("CLOCK_STEP");
    if (answer == 0 && clock == CLOCK_REALTIME && path) {
        FILE *file = fopen(path, "r");
        long long step;
        if (file) {
            if (fscanf(file, "%lld", &step) == 1)
                now->tv_sec += step;
            fclose(file);
        }
    }
    return answer;
}
