// Says of a response on stdin, which comes in pieces of so many bytes, whether it is right:
//
//   judge BODY_LENGTH PIECE
#include "../tools/client.h"

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    long body_length = atol(argv[1]), piece = atol(argv[2]);
    static struct response response;
    begin(&response);
    enum verdict verdict = MORE;
    for (;;) {
        size_t size;
        char *into = room(&response, &size);
        size_t got = fread(into, 1, (size_t)piece < size ? (size_t)piece : size, stdin);
        if (got == 0) break;
        // As every client does: behind the end nothing may come.
        verdict = verdict == WHOLE ? BAD_LENGTH : judge(&response, got, body_length);
        if (verdict > WHOLE) break;
    }
    puts(verdict != WHOLE ? words_for(verdict) : response.says_close ? "announces the end" : "right");
    return 0;
}
