//! Whether a request was meant for this machine's loopback.
//!
//! A web page can give its own name a loopback address (DNS rebinding) and then have a browser on
//! this machine ask here; such a request carries the page's name as its host.

use axum::http::{HeaderMap, Uri, header::HOST};

/// Whether the one `Host` header, and the target if it names a host, are loopback.
pub(super) fn is_loopback(headers: &HeaderMap, target: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let named = target.authority().is_none_or(|authority| is_loopback_name(authority.as_str()));
    named && host.to_str().is_ok_and(is_loopback_name)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port or none.
fn is_loopback_name(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => host,
    };
    bare.eq_ignore_ascii_case("localhost") || bare == "127.0.0.1" || bare == "[::1]"
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_loopback_are_let_in() {
        let cases = [
            (&["localhost"][..], "/status", true),
            (&["LocalHost:1"], "/status", true),
            (&["127.0.0.1:52380"], "/status", true),
            (&["[::1]"], "/status", true),
            (&["[::1]:52380"], "/status", true),
            (&["127.0.0.1"], "http://127.0.0.1/status", true),
            (&["127.0.0.1"], "http://evil.example/status", false),
            (&["evil.example"], "/status", false),
            (&["evil.example:52380"], "/status", false),
            (&["localhost.evil.example"], "/status", false),
            (&["127.0.0.1.evil.example"], "/status", false),
            (&["user@localhost"], "/status", false),
            (&["localhost:"], "/status", false),
            (&["localhost:80:80"], "/status", false),
            (&["::1"], "/status", false),
            (&["0.0.0.0"], "/status", false),
            (&[""], "/status", false),
            (&[], "/status", false),
            (&["localhost", "evil.example"], "/status", false),
            (&["localhost", "localhost"], "/status", false),
        ];
        for (hosts, target, expected) in cases {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_str(host).unwrap());
            }
            let target = target.parse().unwrap();
            assert_eq!(is_loopback(&headers, &target), expected, "{hosts:?} {target}");
        }
    }
}
