/* The floor that the media plane is measured against: an echo that does nothing but epoll, recv and send.
 *
 * usage: floor CALLS FIRST_LOCAL_PORT FIRST_REMOTE_PORT
 * Call i: a UDP socket on FIRST_LOCAL_PORT + 2 i, connected to 127.0.0.1:FIRST_REMOTE_PORT + 2 i. Runs until SIGTERM,
 * then prints the number of packets echoed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static void end(int signal) { ended = signal; }

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int calls = atoi(argv[1]), local = atoi(argv[2]), remote = atoi(argv[3]);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    int poll = epoll_create1(0);
    for (int i = 0; i < calls; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(local + 2 * i)};
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(remote + 2 * i)};
        here.sin_addr.s_addr = there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) || connect(fd, (struct sockaddr *)&there, sizeof there)) {
            perror("socket");
            return 1;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
    static struct epoll_event ready[4096];
    static char packet[2048];
    long echoed = 0;
    puts("ready");
    fflush(stdout);
    while (!ended) {
        int count = epoll_wait(poll, ready, 4096, 100);
        for (int i = 0; i < count; i++) {
            ssize_t length = recv(ready[i].data.fd, packet, sizeof packet, 0);
            if (length > 0 && send(ready[i].data.fd, packet, length, 0) == length) echoed++;
        }
    }
    printf("%ld\n", echoed);
    return 0;
}
