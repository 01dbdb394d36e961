/* Far ends for media benchmarks: sends RTP on many calls, and measures what comes back.
 *
 * usage: loadgen CALLS FIRST_LOCAL_PORT FIRST_REMOTE_PORT SECONDS WARM_UP_SECONDS LOSS
 * Call i: a UDP socket on FIRST_LOCAL_PORT + 2 i, connected to 127.0.0.1:FIRST_REMOTE_PORT + 2 i; one µ-law packet of
 * 20 ms each 20 ms, the calls spread evenly over that time. The first octets of a payload carry the time at which it
 * was sent, in µs, one hexadecimal digit per octet (0xa0 | digit << 1: loud and not clipped, and exact in G.711). LOSS,
 * from 0 to 1, is the share of packets that are not sent.
 * Arrival times are the kernel's (SO_TIMESTAMPNS). Prints one JSON object; times in ms.
 *
 * pacing  arrival time less RTP time of each packet, less the smallest such difference of its call
 * late    when packets were late by more than 2 ms: [CLOCK_MONOTONIC, by how much], one entry per ms
 * echo    from the sending of a payload to its return
 */
#include <arpa/inet.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 20000000LL
#define DIGITS 8
#define BURST 256
#define LATE_NS 2000000LL

struct call {
    int fd;
    int started;
    uint16_t sequence;
    uint32_t timestamp, first_timestamp;
    int64_t unwrapped;  /* RTP time since the first packet, in timestamp units */
    int64_t least;      /* smallest arrival less RTP time, ns */
};
struct sample { int32_t call; int64_t difference, at; };

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
static void print_percentiles(const char *name, int64_t *values, long count, const char *behind) {
    static const double part[] = {0.5, 0.99, 0.999, 1.0};
    static const char *label[] = {"p50", "p99", "p99_9", "max"};
    qsort(values, count, sizeof *values, by_value);
    printf("\"%s\": {", name);
    for (int i = 0; i < 4; i++) {
        long at = count ? (long)(part[i] * (count - 1)) : 0;
        printf("\"%s\": %.3f%s", label[i], count ? values[at] / 1e6 : 0.0, i < 3 ? ", " : "}");
    }
    printf("%s", behind);
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int calls = atoi(argv[1]), local = atoi(argv[2]), remote = atoi(argv[3]);
    double seconds = atof(argv[4]), warm_up = atof(argv[5]), loss = atof(argv[6]);
    struct sched_param priority = {.sched_priority = 5};
    sched_setscheduler(0, SCHED_RR, &priority);  /* below the plane, above what else runs here; refused is fine */
    struct call *call = calloc(calls, sizeof *call);
    long room = (long)(calls * (seconds + 2) * 60) + 1000, samples = 0, echoes = 0;
    struct sample *sample = malloc(room * sizeof *sample);
    int64_t *echo = malloc(room * sizeof *echo);
    int poll = epoll_create1(0);
    for (int i = 0; i < calls; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), yes = 1;
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(local + 2 * i)};
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(remote + 2 * i)};
        here.sin_addr.s_addr = there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
        if (bind(fd, (struct sockaddr *)&here, sizeof here) || connect(fd, (struct sockaddr *)&there, sizeof there)) {
            perror("socket");
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        call[i].fd = fd;
        call[i].least = INT64_MAX;
    }
    static struct epoll_event ready[4096];
    static unsigned char out[172], in[2048], ancillary[256];
    int64_t start = now_ns(CLOCK_MONOTONIC), wall = INT64_MIN;  /* the kernel's clock less ours, learned in the warm-up */
    int64_t end = start + (int64_t)(seconds * 1e9), measure = start + (int64_t)(warm_up * 1e9);
    long turn = 0, sent = 0, received = 0, sequence_gaps = 0, timestamp_gaps = 0;
    while (1) {
        int64_t now = now_ns(CLOCK_MONOTONIC);
        if (now > end + 200000000LL) break;
        /* Packet number `turn` belongs to call turn % calls; packets are spread evenly over the period. */
        int burst = 0;  /* one that is behind must not let what comes back pile up */
        while (now < end && burst++ < BURST && start + turn * PERIOD_NS / calls <= now) {
            int i = turn % calls;
            uint32_t n = turn / calls, us = (uint32_t)(now_ns(CLOCK_MONOTONIC) / 1000);
            memset(out, 0xff, sizeof out);
            out[0] = 0x80;
            out[1] = 0;
            out[2] = n >> 8, out[3] = n;
            uint32_t timestamp = htonl(n * 160), ssrc = htonl(1000 + i);
            memcpy(out + 4, &timestamp, 4);
            memcpy(out + 8, &ssrc, 4);
            for (int d = 0; d < DIGITS; d++) out[12 + d] = 0xa0 | ((us >> (4 * d)) & 15) << 1;
            turn++;
            if (drand48() < loss) continue;
            send(call[i].fd, out, sizeof out, 0);
            sent++;
        }
        int count = epoll_wait(poll, ready, 4096, burst > BURST ? 0 : 1);
        for (int k = 0; k < count; k++) {
            struct call *c = &call[ready[k].data.u32];
            struct iovec part = {in, sizeof in};
            struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof ancillary};
            ssize_t length = recvmsg(c->fd, &message, 0);
            if (length < 12 + DIGITS || (in[1] >= 192 && in[1] <= 223)) continue;  /* RTCP (RFC 5761) */
            int64_t at = now_ns(CLOCK_MONOTONIC);
            for (struct cmsghdr *m = CMSG_FIRSTHDR(&message); m; m = CMSG_NXTHDR(&message, m))
                if (m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_TIMESTAMPNS) {
                    struct timespec t;
                    memcpy(&t, CMSG_DATA(m), sizeof t);
                    int64_t stamp = t.tv_sec * 1000000000LL + t.tv_nsec;
                    if (at < measure && stamp - at > wall) wall = stamp - at;
                    at = stamp - wall;
                }
            received++;
            uint16_t sequence = in[2] << 8 | in[3];
            uint32_t timestamp;
            memcpy(&timestamp, in + 4, 4);
            timestamp = ntohl(timestamp);
            if (c->started) {
                if ((uint16_t)(sequence - c->sequence) != 1) sequence_gaps++;
                if (timestamp - c->timestamp != 160) timestamp_gaps++;
                c->unwrapped += (int32_t)(timestamp - c->timestamp);
            }
            c->started = 1, c->sequence = sequence, c->timestamp = timestamp;
            if (at < measure || at > end) continue;
            int64_t difference = at - c->unwrapped * 125000;
            if (difference < c->least) c->least = difference;
            if (samples < room) sample[samples++] = (struct sample){c - call, difference, at};
            int whole = 1;
            uint32_t us = 0;
            for (int d = 0; d < DIGITS; d++) {
                if ((in[12 + d] & 0xe1) != 0xa0) whole = 0;
                us |= (uint32_t)(in[12 + d] >> 1 & 15) << (4 * d);
            }
            if (whole && echoes < room) echo[echoes++] = (int64_t)(uint32_t)((uint32_t)(at / 1000) - us) * 1000;
        }
    }
    int64_t *pacing = malloc((samples + 1) * sizeof *pacing);
    for (long s = 0; s < samples; s++) pacing[s] = sample[s].difference - call[sample[s].call].least;
    printf("{\"sent\": %ld, \"received\": %ld, \"sequence_gaps\": %ld, \"timestamp_gaps\": %ld, ", sent, received,
           sequence_gaps, timestamp_gaps);
    printf("\"late\": [");
    for (long s = 0, told = 0, before = 0; s < samples; s++)
        if (pacing[s] > LATE_NS && sample[s].at / 1000000 != before) {
            before = sample[s].at / 1000000;
            printf("%s[%.3f, %.3f]", told++ ? ", " : "", sample[s].at / 1e6, pacing[s] / 1e6);
        }
    printf("], ");
    print_percentiles("pacing_ms", pacing, samples, ", ");
    print_percentiles("echo_ms", echo, echoes, "}\n");
    return 0;
}
