"""TLS: from a DSN's options to a context, and from OpenSSL's words to a sentence that says what to do.

Rule 1: nothing is weaker than asked for: an unknown authority, another host's certificate or a missing file is a
refusal, and never a connection in the clear.
Rule 2: files are read at each opening, so that renewed certificates are used without a restart.
"""

from __future__ import annotations

import os
import ssl

from rrqd.dsn import Endpoint, TlsOptions
from rrqd.exc import NotLetIn, StoreUnavailable

#: OpenSSL's numbers (X509_V_ERR_…).
EXPIRED = (10,)
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
OTHER_HOST = (62, 64)

CLIENT = "a client certificate: name it with ssl_certfile= and ssl_keyfile="


def context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """The context to connect with; ``None`` without TLS. Raises NotLetIn for a file that can't be used."""
    options = endpoint.tls
    if options is None:
        return None
    _look_for(endpoint, options)
    try:
        made = ssl.create_default_context(cafile=options.ca_certs, capath=options.ca_path)
    except (OSError, ValueError) as fault:
        raise _unusable(endpoint, "ssl_ca_certs", options.ca_certs, fault) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = options.check_hostname
    if options.verify == "none":
        made.verify_mode = ssl.CERT_NONE
    if options.certfile is not None:
        try:  # an empty password, because OpenSSL would ask for one on the terminal
            made.load_cert_chain(options.certfile, options.keyfile, options.password or "")
        except (OSError, ValueError) as fault:
            raise _unusable(endpoint, "ssl_certfile and ssl_keyfile", options.certfile, fault) from None
    return made


def _look_for(endpoint: Endpoint, options: TlsOptions) -> None:
    for option, path in (
        ("ssl_ca_certs", options.ca_certs),
        ("ssl_ca_path", options.ca_path),
        ("ssl_certfile", options.certfile),
        ("ssl_keyfile", options.keyfile),
    ):
        if path is not None and not os.access(path, os.R_OK):
            why = "cannot be read" if os.path.exists(path) else "is not there"
            raise NotLetIn(f"Cannot connect to {endpoint.address}: {option} {path} {why}")


def _unusable(endpoint: Endpoint, option: str, path: str | None, fault: Exception) -> NotLetIn:
    why = getattr(fault, "reason", None) or str(fault)
    words = str(why).replace("_", " ").lower()
    return NotLetIn(f"Cannot connect to {endpoint.address}: {option} {path} cannot be used: {words}")


def refusal(endpoint: Endpoint, fault: ssl.SSLError) -> NotLetIn:
    """What went wrong in a handshake, and what helps."""
    return NotLetIn(f"Cannot connect to {endpoint.address}: {_words(endpoint, fault)}")


def hung_up(endpoint: Endpoint) -> StoreUnavailable | None:
    """A server that ends a connection before its first answer does not say why; under TLS it is mostly this."""
    if endpoint.tls is None:
        return None
    cause = f"it may not accept {endpoint.tls.certfile}" if endpoint.tls.certfile else f"it may want {CLIENT}"
    return StoreUnavailable(f"Cannot connect to {endpoint.address}: it hung up after the TLS handshake; {cause}")


def _words(endpoint: Endpoint, fault: ssl.SSLError) -> str:
    options = endpoint.tls or TlsOptions()
    if isinstance(fault, ssl.SSLCertVerificationError):
        code, said = fault.verify_code, fault.verify_message
        if code in OTHER_HOST:
            return f"its certificate is for another host ({said})"
        if code in UNKNOWN_AUTHORITY:
            hint = f"{options.ca_certs} did not sign it" if options.ca_certs else "name it with ssl_ca_certs="
            return f"its certificate is from an unknown authority ({said}); {hint}"
        return f"its certificate {'has expired' if code in EXPIRED else 'is refused'} ({said})"
    reason = fault.reason or str(fault)
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason:
        return "it does not speak TLS on this port; without TLS the scheme is redis://"
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and options.certfile is None):
        return f"it wants {CLIENT}"
    if "ALERT" in reason and options.certfile is not None:
        return f"it refuses the client certificate {options.certfile} ({reason.replace('_', ' ').lower()})"
    return reason.replace("_", " ").lower()
