// What the load generators that speak TLS share.
#include <openssl/ssl.h>

// What all connections have agreed on; empty before the first.
static char agreed_cipher[64];

// The key of the comparison's certificate is on the curve P-256: with another a handshake costs something else.
static inline int has_usual_key(SSL *ssl) {
    X509 *shown = SSL_get_peer_certificate(ssl);
    EVP_PKEY *key = shown ? X509_get0_pubkey(shown) : NULL;
    int is_usual = key && EVP_PKEY_base_id(key) == EVP_PKEY_EC && EVP_PKEY_bits(key) == 256;
    X509_free(shown);
    return is_usual;
}

// What is wrong with a connection whose hands are shaken; NULL: nothing.
static inline const char *look_at_tls(SSL *ssl) {
    if (!has_usual_key(ssl)) return "the certificate has no P-256 key";
    const char *cipher = SSL_get_cipher_name(ssl);
    if (*agreed_cipher && strcmp(agreed_cipher, cipher)) return "connections have different ciphers";
    snprintf(agreed_cipher, sizeof agreed_cipher, "%s", cipher);
    return NULL;
}
