// HTTP/1.1 requests at a fixed rate, whether or not the answers keep up (an open loop). A latency
// counts from the moment at which the request was due, so that a proxy that stalls is charged for
// everyone who would have come in the meantime.
//
// It shares its processor with the backends as their equal, and whatever it waits for that counts as the
// proxy's latency too. So it tells how late it was with 99 % of the requests, by its own fault: not for want
// of a connection.
//
//   rate PORT PATH BODY_LENGTH RATE SECONDS CONNECTIONS
//
// Prints one JSON object: totals, the seconds until the last answer, percentiles in microseconds, and the same for
// every second.
#include "client.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 256, NONE = -1 };

struct connection {
    int fd;
    long request;  // which one is under way; NONE: idle
    struct response response;
};

static int port, epoll_fd;
static long body_length;
static char request[512];
static size_t request_length;
static long errors_closed, errors_status, errors_length, errors_content, errors_unfinished;

static void open_connection(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
        perror("connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    c->request = NONE;
}

// Connections on which something comes though everything is answered: a response too many, at any time before, leaves
// one over there.
static int surplus(struct connection *all, int connections) {
    struct timespec silence = {.tv_nsec = SECOND / 20};
    nanosleep(&silence, NULL);
    int found = 0;
    char byte;
    for (struct connection *c = all; c < all + connections; c++) found += recv(c->fd, &byte, 1, MSG_DONTWAIT) > 0;
    return found;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: rate PORT PATH BODY_LENGTH RATE SECONDS CONNECTIONS\n");
        return 64;
    }
    port = atoi(argv[1]);
    body_length = atol(argv[3]);
    double rate = atof(argv[4]);
    int seconds = atoi(argv[5]), connections = atoi(argv[6]);
    request_length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", argv[2], port);

    long total = (long)(rate * seconds), next = 0, done = 0, failed = 0;
    uint64_t spacing = (uint64_t)(SECOND / rate);
    uint32_t *latency = calloc(total, sizeof *latency);  // microseconds; 0: it failed
    uint32_t *late = calloc(total, sizeof *late);
    struct connection *all = calloc(connections, sizeof *all);
    struct connection **idle = calloc(connections, sizeof *idle);
    int idle_count = 0;
    uint64_t idle_since = 0;  // when there was a connection again, after there was none
    epoll_fd = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event tick = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &tick);
    for (int i = 0; i < connections; i++) {
        open_connection(&all[i]);
        idle[idle_count++] = &all[i];
    }

    uint64_t start = now() + SECOND / 100, deadline = start + (uint64_t)(seconds + 5) * SECOND;
    struct epoll_event events[EVENTS];
    while (done + failed < total && now() < deadline) {
        while (next < total && idle_count > 0 && start + next * spacing <= now()) {
            struct connection *c = idle[--idle_count];
            c->request = next++;
            uint64_t due = start + c->request * spacing;
            late[c->request] = (now() - (due > idle_since ? due : idle_since)) / 1000;
            begin(&c->response);
            // A closed connection shows when it is read.
            (void)!send(c->fd, request, request_length, MSG_NOSIGNAL);
        }
        if (next < total && idle_count > 0) {
            uint64_t at = start + next * spacing;
            struct itimerspec due = {.it_value = {.tv_sec = at / SECOND, .tv_nsec = at % SECOND}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &due, NULL);
        }
        int ready = epoll_wait(epoll_fd, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                (void)!read(timer, &ticks, sizeof ticks);
                continue;
            }
            size_t size;
            char *into = room(&c->response, &size);
            ssize_t got = recv(c->fd, into, size, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            enum verdict verdict = MORE;
            if (c->request != NONE && got > 0) verdict = judge(&c->response, got, body_length);
            // Each connection is to stay open.
            errors_closed += got <= 0 || (verdict == WHOLE && c->response.says_close);
            errors_status += verdict == BAD_STATUS;
            errors_content += verdict == BAD_CONTENT;
            // Also bytes that nobody asked for.
            errors_length += verdict == BAD_HEAD || verdict == BAD_LENGTH || (got > 0 && c->request == NONE);
            if (got <= 0 || c->request == NONE || verdict > WHOLE) {
                if (c->request != NONE) {
                    failed++;
                    idle[idle_count++] = c;
                }
                close(c->fd);
                open_connection(c);
            } else if (verdict == WHOLE) {
                uint64_t took = (now() - (start + c->request * spacing)) / 1000;
                latency[c->request] = took ? took : 1;
                c->request = NONE;
                done++;
                if (idle_count == 0) idle_since = now();
                idle[idle_count++] = c;
            }
        }
    }
    uint64_t took = now() - start;
    errors_unfinished = total - done - failed;
    if (!errors_unfinished) errors_length += surplus(all, connections);

    printf("{\"due\": %ld, \"done\": %ld, \"closed\": %ld, \"status\": %ld, \"length\": %ld, \"content\": %ld, \"unfinished\": %ld, \"took\": %.6f, \"seconds\": [",
           total, done, errors_closed, errors_status, errors_length, errors_content, errors_unfinished, (double)took / SECOND);
    for (int s = 0; s < seconds; s++) {
        long from = (long)(s * rate), to = (long)((s + 1) * rate), count = 0;
        if (to > total) to = total;
        uint32_t *part = malloc((to - from) * sizeof *part);
        for (long i = from; i < to; i++)
            if (latency[i]) part[count++] = latency[i];
        qsort(part, count, sizeof *part, by_size);
        printf("%s{\"done\": %ld, \"p50\": %u, \"p99\": %u, \"max\": %u}", s ? ", " : "", count,
               percentile(part, count, 0.5), percentile(part, count, 0.99), percentile(part, count, 1));
        free(part);
    }
    long count = 0;
    for (long i = 0; i < total; i++)
        if (latency[i]) latency[count++] = latency[i];
    qsort(latency, count, sizeof *latency, by_size);
    qsort(late, next, sizeof *late, by_size);
    printf("], \"p50\": %u, \"p99\": %u, \"max\": %u, \"late_p99\": %u}\n", percentile(latency, count, 0.5),
           percentile(latency, count, 0.99), percentile(latency, count, 1), percentile(late, next, 0.99));
    return 0;
}
