/* The callers' voices: sends RTP on sockets that it inherits, and writes down what comes back.
 *
 * usage: talker LOOP.ulaw SECONDS FD...     records on standard output, until SECONDS have passed
 * Every socket is connected to its far end. Call i sends one µ-law packet of 160 octets each 20 ms, at its own phase,
 * from the sound in LOOP.ulaw (a whole number of packets, played round and round, started elsewhere by each call).
 * Arrival times are the kernel's (SO_TIMESTAMPNS); all times are CLOCK_REALTIME in ns.
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

#define PERIOD_NS 20000000LL
#define PACKET 160
#define LOUD 4000 /* of 32124: the sound of the loop is above it in every packet, and what is made up in silences below */

struct record { /* as RECORD in talker.py */
    int64_t at;
    uint32_t timestamp;
    uint16_t call, sequence;
    int16_t loud; /* index of the first loud sample, -1 when there is none */
    uint16_t kind; /* 0 = received, 1 = sent: the first packet of a sound; `sequence` counts the packets */
    uint32_t unused;
};

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static int level(unsigned char code) {
    int flipped = ~code & 0xff, exponent = flipped >> 4 & 7;
    return (((flipped & 15) << 3) + 132 << exponent) - 132;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int calls = argc - 3;
    double seconds = atof(argv[2]);
    FILE *file = fopen(argv[1], "rb");
    static unsigned char loop[PACKET * 1000];
    long packets = file ? (long)fread(loop, PACKET, 1000, file) : 0;
    if (!packets) return 3;
    struct sched_param priority = {.sched_priority = 5};
    sched_setscheduler(0, SCHED_RR, &priority); /* a caller of its own machine would not wait for ours; refused is fine */
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    int loud[256], *fd = calloc(calls, sizeof *fd), poll = epoll_create1(0);
    for (int code = 0; code < 256; code++) loud[code] = level(code) > LOUD;
    for (int i = 0; i < calls; i++) {
        int yes = 1;
        fd[i] = atoi(argv[3 + i]);
        setsockopt(fd[i], SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd[i], &event);
    }
    static struct epoll_event ready[4096];
    static unsigned char out[12 + PACKET], in[2048], ancillary[256];
    int64_t start = now_ns(CLOCK_MONOTONIC), end = start + (int64_t)(seconds * 1e9);
    for (long sent = 0;;) {
        int64_t now = now_ns(CLOCK_MONOTONIC);
        if (now > end) break;
        while (start + sent * PERIOD_NS / calls <= now) { /* packet number `sent` belongs to call sent % calls */
            uint32_t i = sent % calls, n = sent / calls, place = (n + i * 37) % packets;
            uint32_t timestamp = htonl(n * PACKET), ssrc = htonl(1000 + i);
            out[0] = 0x80, out[1] = 0, out[2] = n >> 8, out[3] = n;
            memcpy(out + 4, &timestamp, 4);
            memcpy(out + 8, &ssrc, 4);
            memcpy(out + 12, loop + place * PACKET, PACKET);
            if (place == 0) {
                struct record r = {now_ns(CLOCK_REALTIME), n * PACKET, i, n, 0, 1, 0};
                fwrite(&r, sizeof r, 1, stdout);
            }
            send(fd[i], out, sizeof out, MSG_DONTWAIT);
            sent++;
        }
        int count = epoll_wait(poll, ready, 4096, 1);
        for (int k = 0; k < count; k++) {
            struct iovec part = {in, sizeof in};
            struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof ancillary};
            ssize_t length = recvmsg(fd[ready[k].data.u32], &message, MSG_DONTWAIT);
            if (length < 12 || (in[1] & 0x7f) != 0) continue; /* RTCP and comfort noise are no speech */
            struct record r = {now_ns(CLOCK_REALTIME), 0, ready[k].data.u32, in[2] << 8 | in[3], -1, 0, 0};
            for (struct cmsghdr *m = CMSG_FIRSTHDR(&message); m; m = CMSG_NXTHDR(&message, m))
                if (m->cmsg_level == SOL_SOCKET && m->cmsg_type == SCM_TIMESTAMPNS) {
                    struct timespec t;
                    memcpy(&t, CMSG_DATA(m), sizeof t);
                    r.at = t.tv_sec * 1000000000LL + t.tv_nsec;
                }
            memcpy(&r.timestamp, in + 4, 4);
            r.timestamp = ntohl(r.timestamp);
            for (ssize_t s = 12; s < length && r.loud < 0; s++)
                if (loud[in[s]]) r.loud = (int16_t)(s - 12);
            fwrite(&r, sizeof r, 1, stdout);
        }
    }
    return fflush(stdout) != 0;
}
