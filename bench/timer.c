/* A timer that does nothing else: how late this machine wakes a process that asks for nothing but its turn.
 *
 * usage: timer CPU SECONDS
 * Bound to CPU, above the priority of the media plane, it sleeps to absolute deadlines of 1 ms. Prints one JSON object: how
 * late it was woken, and when (CLOCK_MONOTONIC, ms) by more than half a millisecond.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define PERIOD_NS 1000000LL
#define LATE_NS 500000LL

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(atoi(argv[1]), &here);
    sched_setaffinity(0, sizeof here, &here);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    struct sched_param priority = {.sched_priority = 11};
    sched_setscheduler(0, SCHED_RR, &priority); /* refused is fine: the plane was refused it too */
    long count = (long)(atof(argv[2]) * 1000);
    int64_t *late = calloc(count + 1, sizeof *late);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t start = t.tv_sec * 1000000000LL + t.tv_nsec;
    printf("{\"late\": [");
    const char *between = "";
    for (long n = 0; n < count; n++) {
        int64_t deadline = start + (n + 1) * PERIOD_NS;
        t.tv_sec = deadline / 1000000000LL, t.tv_nsec = deadline % 1000000000LL;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) continue;
        clock_gettime(CLOCK_MONOTONIC, &t);
        late[n] = t.tv_sec * 1000000000LL + t.tv_nsec - deadline;
        if (late[n] > LATE_NS) {
            printf("%s[%.3f, %.3f]", between, deadline / 1e6, late[n] / 1e6);
            between = ", ";
        }
    }
    qsort(late, count, sizeof *late, by_value);
    static const double part[] = {0.5, 0.99, 0.999, 1.0};
    static const char *label[] = {"p50", "p99", "p99_9", "max"};
    printf("], \"late_ms\": {");
    for (int i = 0; i < 4; i++)
        printf("\"%s\": %.3f%s", label[i], count ? late[(long)(part[i] * (count - 1))] / 1e6 : 0.0, i < 3 ? ", " : "}}\n");
    return 0;
}
