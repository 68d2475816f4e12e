//! Where a registry may send us: the rules for redirect targets, upload locations and token realms.
//!
//! A registry that we are told to use is the user's choice; where *it* points to is not. Must not be used for
//! anything but deciding: it opens no connection. Names are checked again after resolution ([`GuardedResolver`]),
//! because a name that is harmless now may resolve to the metadata service later.

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Metadata services of clouds outside of the link-local range: Alibaba, Azure's wire server, Oracle's classic one.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The same in the unique-local range: AWS, its pod identity agent, Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address is one that a remote party must never make us talk to.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => is_forbidden_v6(v6) || embedded(v6).is_some_and(is_forbidden_v4),
    }
}

/// The IPv4 address that an IPv6 one carries: mapped, compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0 | 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => of(high, low),
        [..] => None,
    }
}

fn is_forbidden_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_multicast()
        || v4.octets()[0] == 0
        || METADATA_V4.contains(&v4)
}

fn is_forbidden_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unicast_link_local()
        || METADATA_V6.contains(&v6)
}

/// Checks a URL that a registry gave us. `trusted` is true when the registry itself is listed as insecure: then it
/// stands in a local network, and plain http and local addresses are what it is expected to use.
pub(crate) fn check(url: &Url, trusted: bool) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user name in it is never followed");
    }
    if url.scheme() != "https" && !(trusted && url.scheme() == "http") {
        return Err("only https is followed, unless the registry is listed as insecure");
    }
    if trusted { Ok(()) } else { check_host(url) }
}

/// Checks only the host of a URL, as far as its text tells; names are checked again when they are resolved.
pub(crate) fn check_host(url: &Url) -> Result<(), &'static str> {
    let host = url.host_str().ok_or("a URL without a host is never followed")?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if literal.is_ok_and(is_forbidden) || is_local_name(host) {
        return Err("loopback, link-local and metadata addresses are never followed");
    }
    Ok(())
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Resolves names like the system does and drops the addresses that are forbidden.
pub(crate) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| !is_forbidden(a.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no address that may be followed".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Scheme and host of a URL: all of it that may be shown.
pub(crate) fn shown(url: &Url) -> String {
    let host: String = url.host_str().unwrap_or("?").chars().take(100).collect();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Whether two URLs name the same host and port.
pub(crate) fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_and_metadata_addresses_are_never_followed_in_any_spelling() {
        for url in [
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://100.100.100.200/",
            "https://0.0.0.0/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://localhost/",
            "https://a.localhost./",
            "http://example.com/",
            "ftp://example.com/",
            "https://user@example.com/",
        ] {
            assert!(check(&url.parse().unwrap(), false).is_err(), "{url}");
        }
        assert_eq!(
            check(&"https://cdn.example.com/x?sig=1".parse().unwrap(), false),
            Ok(())
        );
        assert_eq!(check(&"http://127.0.0.1:5000/x".parse().unwrap(), true), Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_after_resolution() {
        let resolved = GuardedResolver.resolve("localhost".parse().unwrap()).await;
        let message = resolved.err().expect("loopback must be refused").to_string();
        assert!(message.contains("no address that may be followed"), "{message}");
    }
}
