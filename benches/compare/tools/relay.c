// The floor: a relay that parses nothing. One connection to a backend for each client; what comes
// from either side is read once and written once to the other. No proxy that looks at HTTP can
// take less of the processor, because these system calls are what is left of it.
//
//   relay PORT BACKEND_PORT...
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 65536, EVENTS = 256 };

static int peer_of[MAX_FDS];
static char buffer[256 * 1024];

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

// Writes all of it. A full socket is waited for: what is measured here never fills one.
static int write_all(int fd, const char *data, ssize_t length) {
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            poll(&full, 1, -1);
            continue;
        }
        if (written < 0) return -1;
        data += written;
        length -= written;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: relay PORT BACKEND_PORT...\n");
        return 64;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, turn = 0;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in own = loopback(atoi(argv[1]));
    if (bind(listener, (struct sockaddr *)&own, sizeof own)) die("bind");
    if (listen(listener, 1024)) die("listen");
    int epoll = epoll_create1(0);
    watch(epoll, listener);

    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0) continue;
                int backend = socket(AF_INET, SOCK_STREAM, 0);
                struct sockaddr_in to = loopback(atoi(argv[2 + turn++ % (argc - 2)]));
                if (backend < 0 || client >= MAX_FDS || backend >= MAX_FDS ||
                    connect(backend, (struct sockaddr *)&to, sizeof to))
                    die("connect to a backend");
                peer_of[client] = backend;
                peer_of[backend] = client;
                watch(epoll, client);
                watch(epoll, backend);
                continue;
            }
            if (peer_of[fd] == 0) continue;  // closed by an earlier event of this turn
            int peer = peer_of[fd];
            ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0 || write_all(peer, buffer, got)) {
                peer_of[fd] = peer_of[peer] = 0;
                close(fd);
                close(peer);
            }
        }
    }
}
