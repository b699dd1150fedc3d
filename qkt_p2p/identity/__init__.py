"""Who a peer is: its key, its certificate, and the authority that vouches for it.

files         reading and atomically replacing small files that hold keys and certificates
keys          ECDSA P-256 keys, and the peer id and names that follow from a public key
naming        the name and the roles that an authority gives a member
authority     a federation's self-signed root, and the signing of requests
change_over   a second root, while one authority takes over from another
inspection    what one certificate says
certificates  requests, chains, and why one would be refused
tokens        the text by which a machine joins
ledger        a file of entries that several processes change in turn
invitations   who may join with a token
issued        what an authority signed
enrollment    how a joining machine knows the authority, and proves that it was invited
revocation    one authority's signed, versioned list of who is no longer a member
revocations   all such lists that a node holds
registrar     an authority at work: signs, enrols, renews, revokes
renewal       when and where a certificate is renewed, and how a new key takes over
standing      what a node shows and whom it believes at this moment
trust         what a node holds once it joined, and who a certificate's URI says it is

This is the only package that imports `cryptography`. Formats: X.509 (RFC 5280), PKCS #10 (RFC 2986),
SPIFFE X.509-SVID.
"""
