// What the load generators that speak TLS share.
#include <openssl/ssl.h>

// Whether the other side has shown a certificate with a key on the curve P-256, as that of the comparison has: with
// another a handshake costs something else.
static inline int has_usual_key(SSL *ssl) {
    X509 *shown = SSL_get_peer_certificate(ssl);
    EVP_PKEY *key = shown ? X509_get0_pubkey(shown) : NULL;
    int is_usual = key && EVP_PKEY_base_id(key) == EVP_PKEY_EC && EVP_PKEY_bits(key) == 256;
    X509_free(shown);
    return is_usual;
}
