// As many requests as are answered, over connections that stay open (a closed loop). Every response is looked
// at, byte by byte, and the first wrong one ends the load.
//
//   closed PORT PATH BODY_LENGTH SECONDS CONNECTIONS plain|tls|http2 STREAMS
//
// STREAMS is how many requests each connection has under way: 1 but for HTTP/2. A warm-up over the same
// connections comes first; then it says "ready" and waits for a line, or the end, of its input.
// Prints one JSON object: requests and the seconds that they took, the cipher, and percentiles in microseconds; or what
// was wrong.
#include "client.h"
#include "tls.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, RECORD = 16384, WINDOW = (1 << 30) - 1 };
static const double WARM_UP_SECONDS = 0.4, PATIENCE_SECONDS = 5, SILENCE_SECONDS = 0.05;

struct stream {
    struct connection *connection;
    uint64_t asked;
    int status, has_ended;
    long length, announced;     // -1: not announced
};

struct connection {
    int fd;
    SSL *ssl;
    int is_open;                // with hands shaken
    uint64_t asked;
    struct response response;   // HTTP/1.1
    nghttp2_session *session;   // HTTP/2
    struct stream *streams;
    unsigned char frame[9];     // the head of a frame, as far as it has come
    size_t frame_head;          // so many bytes of it
    size_t frame_left;          // bytes of its payload to come
    long frames, frames_taken;  // DATA and HEADERS that came, and those that nghttp2 gave to a stream
};

static enum { PLAIN, TLS, HTTP2 } protocol;
static int port, epoll_fd, connections, streams;
static struct connection *all;
static long body_length;
static char host[64], *path, request[512];
static int request_length;
static int is_asking;           // whether a request follows a response
static long under_way;          // requests, and connections that shake hands
static struct latencies latencies;

static void die(const char *what) {
    perror(what);
    exit(1);
}

// One wrong response makes the figures worthless.
static void wrong(const char *what, ...) {
    va_list values;
    va_start(values, what);
    printf("{\"requests\": %ld, \"wrong\": \"", latencies.count);
    vprintf(what, values);
    printf("\"}\n");
    va_end(values);
    exit(0);
}

static void answered(uint64_t asked) {
    note_latency(&latencies, asked);
    under_way--;
}

// HTTP/1.1 ---------------------------------------------------------------------------------------

static void ask(struct connection *c) {
    begin(&c->response);
    c->asked = now();
    under_way++;
    int sent = c->ssl ? SSL_write(c->ssl, request, request_length) : send(c->fd, request, request_length, MSG_NOSIGNAL);
    if (sent != request_length) wrong("a request cannot be written");
}

// Reads once, from a socket, or all of a record. Between a response and the next request nothing may come.
static void read_http1(struct connection *c) {
    do {
        size_t size;
        char *into = room(&c->response, &size);
        ssize_t got = c->ssl ? SSL_read(c->ssl, into, size) : recv(c->fd, into, size, 0);
        if (got < 0 && (c->ssl ? SSL_get_error(c->ssl, got) == SSL_ERROR_WANT_READ : errno == EAGAIN)) return;
        if (got <= 0) wrong("the proxy closes a connection that is to stay open");
        if (!c->asked) wrong("%zd bytes that nobody asked for", got);
        enum verdict verdict = judge(&c->response, got, body_length);
        if (verdict > WHOLE) wrong("%s", words_for(verdict));
        if (verdict == WHOLE) {
            if (c->response.says_close) wrong("the proxy announces the end of a connection that is to stay open");
            answered(c->asked);
            c->asked = 0;
            if (is_asking) ask(c);
        }
    } while (c->ssl && SSL_pending(c->ssl));
}

// HTTP/2 -----------------------------------------------------------------------------------------

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void submit(struct stream *stream) {
    nghttp2_nv fields[] = {field(":method", "GET"), field(":scheme", "https"), field(":authority", host), field(":path", path)};
    stream->status = stream->has_ended = 0;
    stream->length = 0;
    stream->announced = -1;
    stream->asked = now();
    under_way++;
    if (nghttp2_submit_request(stream->connection->session, NULL, fields, 4, NULL, stream) < 0) wrong("a request cannot be written");
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *connection) {
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags, (void)connection, (void)value_length;
    // Names and values end with a zero byte here, and nghttp2 takes but digits, and one length.
    if (name_length == 7 && !memcmp(name, ":status", 7)) stream->status = atoi((const char *)value);
    if (name_length == 14 && !memcmp(name, "content-length", 14)) stream->announced = atol((const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *part, size_t length, void *connection) {
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags, (void)connection;
    stream->length += length;
    // Of another status the end tells.
    if (stream->status == 200 && !is_content((const char *)part, length)) wrong("%s", words_for(BAD_CONTENT));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *connection) {
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)connection;
    if (code) wrong("a stream is reset: %s", nghttp2_http2_strerror(code));
    if (stream->status != 200) wrong("%s", words_for(BAD_STATUS));
    if (!stream->has_ended) wrong("%s", words_for(MORE));
    int is_right = stream->announced < 0 || stream->announced == body_length;
    if (stream->length != body_length || !is_right) wrong("%s", words_for(BAD_LENGTH));
    answered(stream->asked);
    if (is_asking) submit(stream);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *of) {
    struct connection *c = of;
    if (frame->hd.type == NGHTTP2_GOAWAY) wrong("the proxy closes a connection that is to stay open");
    if (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) {
        struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        c->frames_taken++;
        if (stream && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) stream->has_ended = 1;
    }
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code, void *connection) {
    (void)session, (void)frame, (void)connection;
    wrong("HTTP/2 is not kept to: %s", nghttp2_strerror(code));
    return 0;
}

// Counts frames of responses. nghttp2 passes over those of streams that have ended.
static void count_frames(struct connection *c, const unsigned char *in, size_t length) {
    for (size_t step; length > 0; in += step, length -= step) {
        if (c->frame_left > 0) {
            step = length < c->frame_left ? length : c->frame_left;
            c->frame_left -= step;
            continue;
        }
        step = 1;
        c->frame[c->frame_head++] = *in;
        if (c->frame_head < sizeof c->frame) continue;
        c->frame_head = 0;
        c->frame_left = c->frame[0] << 16 | c->frame[1] << 8 | c->frame[2];
        c->frames += c->frame[3] == NGHTTP2_DATA || c->frame[3] == NGHTTP2_HEADERS;
    }
}

static void begin_http2(struct connection *c) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    if (nghttp2_session_client_new(&c->session, callbacks, c)) die("nghttp2_session_client_new");
    nghttp2_session_callbacks_del(callbacks);
    // Windows are none of what is measured.
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
    c->streams = calloc(streams, sizeof *c->streams);
    for (int i = 0; i < streams; i++) c->streams[i].connection = c;
}

// All that waits to be sent, in one record.
static void flush_http2(struct connection *c) {
    static char out[RECORD];
    size_t length = 0;
    for (;;) {
        const uint8_t *data;
        ssize_t part = nghttp2_session_mem_send(c->session, &data);
        if (part < 0) wrong("%s", nghttp2_strerror(part));
        if (length && (part == 0 || length + part > sizeof out)) {
            if (SSL_write(c->ssl, out, length) != (int)length) wrong("requests cannot be written");
            length = 0;
        }
        if (part == 0) return;
        if (part > RECORD) wrong("%zd bytes of one frame are to be written", part);
        memcpy(out + length, data, part);
        length += part;
    }
}

// Reads all that has come, then answers to all of that.
static void read_http2(struct connection *c) {
    static char in[RECORD];
    for (;;) {
        int got = SSL_read(c->ssl, in, sizeof in);
        if (got <= 0 && SSL_get_error(c->ssl, got) == SSL_ERROR_WANT_READ) break;
        if (got <= 0) wrong("the proxy closes a connection that is to stay open");
        count_frames(c, (unsigned char *)in, got);
        ssize_t taken = nghttp2_session_mem_recv(c->session, (uint8_t *)in, got);
        if (taken < 0) wrong("%s", nghttp2_strerror(taken));
    }
    if (!nghttp2_session_want_read(c->session)) wrong("HTTP/2 is not kept to");
    flush_http2(c);
}

// Any ---------------------------------------------------------------------------------------------

static SSL_CTX *make_context(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    static const unsigned char http1[] = "\x08http/1.1", http2[] = "\x02h2";
    SSL_CTX_set_alpn_protos(context, protocol == HTTP2 ? http2 : http1, protocol == HTTP2 ? sizeof http2 - 1 : sizeof http1 - 1);
    return context;
}

static void open_connection(struct connection *c, SSL_CTX *context) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    struct timeval patience = {.tv_sec = (time_t)PATIENCE_SECONDS};
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (context) {
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void ask_all_of(struct connection *c) {
    if (!c->session) return ask(c);
    for (int i = 0; i < streams; i++) submit(&c->streams[i]);
    flush_http2(c);
}

// A step of the handshake, and the first requests when it is over.
static void go_on_opening(struct connection *c) {
    if (c->ssl) {
        ERR_clear_error();
        int result = SSL_do_handshake(c->ssl);
        if (result != 1) {
            int why = SSL_get_error(c->ssl, result);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) wrong("a handshake fails");
            return;
        }
        const unsigned char *chosen;
        unsigned length;
        SSL_get0_alpn_selected(c->ssl, &chosen, &length);
        if (protocol == HTTP2) {
            if (length != 2 || memcmp(chosen, "h2", 2)) wrong("it does not speak HTTP/2");
            begin_http2(c);
        }
    }
    c->is_open = 1;
    const char *trouble = c->ssl ? look_at_tls(c->ssl) : NULL;
    if (trouble) wrong("%s", trouble);
    under_way--;
    ask_all_of(c);
}

// Loads until the time is over and everything is answered.
static void go_on(double seconds) {
    uint64_t end = now() + (uint64_t)(seconds * SECOND), patience = end + (uint64_t)(PATIENCE_SECONDS * SECOND);
    struct epoll_event events[EVENTS];
    while (under_way > 0) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, 100);
        uint64_t at = now();
        is_asking = at < end;
        if (at >= patience) wrong("%ld requests never end", under_way);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c->is_open)
                go_on_opening(c);
            else if (c->session)
                read_http2(c);
            else
                read_http1(c);
        }
    }
}

// By now everybody has said how many requests a connection may have under way.
static void look_at_settings(void) {
    for (struct connection *c = all; protocol == HTTP2 && c < all + connections; c++) {
        uint32_t most = nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
        if (most < (uint32_t)streams) wrong("a connection may have %u streams, and not %d", most, streams);
    }
}

// Everything is answered: whatever comes now nobody has asked for. A response too many, at any time before, leaves
// one over here.
static void expect_silence(void) {
    uint64_t end = now() + (uint64_t)(SILENCE_SECONDS * SECOND);
    struct epoll_event events[EVENTS];
    is_asking = 0;
    while (now() < end) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, 10);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            c->session ? read_http2(c) : read_http1(c);
        }
    }
    for (struct connection *c = all; c < all + connections; c++)
        if (c->frames != c->frames_taken) wrong("%ld frames that nobody asked for", c->frames - c->frames_taken);
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: closed PORT PATH BODY_LENGTH SECONDS CONNECTIONS plain|tls|http2 STREAMS\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    path = argv[2];
    body_length = atol(argv[3]);
    double seconds = atof(argv[4]);
    connections = atoi(argv[5]);
    protocol = !strcmp(argv[6], "http2") ? HTTP2 : !strcmp(argv[6], "tls") ? TLS : PLAIN;
    if (protocol == PLAIN && strcmp(argv[6], "plain")) {
        fprintf(stderr, "no such protocol: %s\n", argv[6]);
        return 64;
    }
    streams = atoi(argv[7]);
    snprintf(host, sizeof host, "127.0.0.1:%d", port);
    request_length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host);

    SSL_CTX *context = protocol == PLAIN ? NULL : make_context();
    epoll_fd = epoll_create1(0);
    all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        open_connection(&all[i], context);
        under_way++;
        go_on_opening(&all[i]);
    }
    go_on(WARM_UP_SECONDS);
    expect_silence();
    look_at_settings();

    printf("ready\n");
    fflush(stdout);
    for (int sign = 0; sign != EOF && sign != '\n';) sign = getchar();
    // What has come meanwhile, too.
    expect_silence();
    latencies.count = 0;
    uint64_t start = now();
    for (int i = 0; i < connections; i++) ask_all_of(&all[i]);
    go_on(seconds);
    double took = (double)(now() - start) / SECOND;
    expect_silence();

    sort_latencies(&latencies);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"cipher\": \"%s\", \"p50\": %u, \"p99\": %u}\n", latencies.count, took, agreed_cipher,
           percentile(latencies.all, latencies.count, 0.5), percentile(latencies.all, latencies.count, 0.99));
    return 0;
}
