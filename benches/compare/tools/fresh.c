// A fresh connection for every request: connect, shake hands, ask, read to the end, close, again.
//
//   fresh PORT PATH BODY_LENGTH SECONDS CONNECTIONS plain|full|resumed 1.2|1.3
//
// plain: without TLS. full: every handshake is a full one. resumed: every connection offers the
// newest session that its predecessor was given. Source addresses take turns in 127.0.0.0/8, since
// one of them has too few ports for all the connections that wait to be forgotten.
// Prints one JSON object; percentiles in microseconds, from connect to the end of the connection.
#include "client.h"
#include "tls.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

struct slot {
    int fd;
    SSL *ssl;
    SSL_SESSION *session;
    uint64_t began;
    int asked, has_looked;
    enum verdict verdict;  // on what has come of the response
    struct response response;
};

static SSL_CTX *context;
static int port, epoll_fd, plain, resume, open_slots;
static uint64_t end;
static long body_length, resumed, wrong;
static char request[512], first_wrong[256];
static struct latencies latencies;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void open_slot(struct slot *slot) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    static uint32_t turn;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (turn++ & 0xff) * 256);
    int one = 1;
    open_slots++;
    slot->began = now();
    slot->asked = 0;
    slot->verdict = MORE;
    begin(&slot->response);
    slot->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (slot->fd < 0) die("socket");
    setsockopt(slot->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(slot->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(slot->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(slot->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    fcntl(slot->fd, F_SETFL, O_NONBLOCK);
    if (!plain) {
        slot->ssl = SSL_new(context);
        SSL_set_fd(slot->ssl, slot->fd);
        SSL_set_connect_state(slot->ssl);
        SSL_set_quiet_shutdown(slot->ssl, 1);
        if (slot->session) SSL_set_session(slot->ssl, slot->session);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->fd, &event);
}

static void note_wrong(const char *what) {
    if (!wrong++) {
        unsigned long code = ERR_peek_last_error();
        snprintf(first_wrong, sizeof first_wrong, "%s%s%s", what, code ? ": " : "", code ? ERR_reason_error_string(code) : "");
    }
}

static void note_end(struct slot *slot) {
    if (slot->verdict != WHOLE) return note_wrong(words_for(slot->verdict));
    note_latency(&latencies, slot->began);
    if (slot->ssl) resumed += SSL_session_reused(slot->ssl);
}

// One step of TLS; 1: done, 0: the socket has no more for now, -1: failed.
static int shake_hands(struct slot *slot) {
    int result = SSL_do_handshake(slot->ssl);
    if (result == 1) return 1;
    int why = SSL_get_error(slot->ssl, result);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static int ask(struct slot *slot) {
    int length = strlen(request);
    slot->asked = 1;
    return slot->ssl ? SSL_write(slot->ssl, request, length) == length
                     : send(slot->fd, request, length, MSG_NOSIGNAL) == length;
}

// Reads what there is; whether there is more to wait for. The end has to be one, and no reset.
static int read_more(struct slot *slot) {
    for (;;) {
        size_t size;
        char *into = room(&slot->response, &size);
        ssize_t got = slot->ssl ? SSL_read(slot->ssl, into, size) : recv(slot->fd, into, size, 0);
        if (got <= 0) {
            int why = slot->ssl ? SSL_get_error(slot->ssl, got) : 0;
            if (slot->ssl ? why == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN) return 1;
            if (slot->ssl ? why != SSL_ERROR_ZERO_RETURN : got < 0) slot->verdict = MORE;
            return 0;
        }
        slot->verdict = judge(&slot->response, got, body_length);
        if (slot->verdict > WHOLE) return 0;
    }
}

// Goes on until the socket has no more for now; 1 when the exchange is over.
static int advance(struct slot *slot) {
    ERR_clear_error();
    if (!slot->asked) {
        int shaken = slot->ssl ? shake_hands(slot) : 1;
        if (shaken == 0) return 0;
        if (shaken < 0) return note_wrong("handshake failed"), 1;
        // Once for each slot: it takes time that the proxy's other connections would have.
        const char *trouble = slot->ssl && !slot->has_looked++ ? look_at_tls(slot->ssl) : NULL;
        if (trouble) return note_wrong(trouble), 1;
        if (!ask(slot)) return note_wrong("cannot write"), 1;
    }
    if (read_more(slot)) return 0;
    return note_end(slot), 1;
}

// Goes on with one connection after another until the socket has no more for now, or the time is over.
static void go_on(struct slot *slot) {
    while (advance(slot)) {
        if (slot->ssl) {
            if (resume) {
                SSL_SESSION_free(slot->session);
                slot->session = SSL_get1_session(slot->ssl);
            }
            // Sends nothing, but without it the session would not be taken up again.
            SSL_shutdown(slot->ssl);
            SSL_free(slot->ssl);
        }
        close(slot->fd);
        open_slots--;
        if (now() >= end || wrong >= 100) return;
        // And at once on: the client is the one who speaks first.
        open_slot(slot);
    }
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: fresh PORT PATH BODY_LENGTH SECONDS CONNECTIONS plain|full|resumed 1.2|1.3\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    body_length = atol(argv[3]);
    double seconds = atof(argv[4]);
    int slots = atoi(argv[5]);
    plain = !strcmp(argv[6], "plain");
    resume = !strcmp(argv[6], "resumed");
    int version = strcmp(argv[7], "1.2") ? TLS1_3_VERSION : TLS1_2_VERSION;
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n", argv[2], port);

    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
    epoll_fd = epoll_create1(0);
    struct slot *all = calloc(slots, sizeof *all);
    uint64_t start = now();
    end = start + (uint64_t)(seconds * SECOND);
    for (int i = 0; i < slots; i++) {
        open_slot(&all[i]);
        go_on(&all[i]);
    }

    struct epoll_event events[EVENTS];
    while (open_slots > 0 && now() < end + 5 * SECOND) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) go_on(events[i].data.ptr);
    }
    double took = (double)(now() - start) / SECOND;
    if (open_slots > 0) note_wrong("requests that never end");
    sort_latencies(&latencies);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"resumed\": %ld, \"wrong\": %ld, \"first_wrong\": \"%s\", \"cipher\": \"%s\", \"p50\": %u, \"p99\": %u}\n",
           latencies.count, took, resumed, wrong, first_wrong, agreed_cipher, percentile(latencies.all, latencies.count, 0.5),
           percentile(latencies.all, latencies.count, 0.99));
    return 0;
}
