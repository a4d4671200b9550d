//! The two kinds of address a setting can hold: `host:port`, and the HTTP base of a node.
//!
//! Names are kept as text and never resolved here: in a container the peers' names appear after this
//! process did, and an address may move while the name stays. Whoever connects resolves anew.

use std::fmt;
use std::str::FromStr;

/// `host:port`. An empty host, as in `:8081`, means every interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A DNS name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    pub port: u16,
}

/// Why text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    #[error("it has no port")]
    NoPort,
    #[error("its port {0:?} is not a number from 1 to 65535")]
    BadPort(String),
    #[error("{0:?} is not a host name or an IP address (an IPv6 address stands in [brackets])")]
    BadHost(String),
    #[error("it has no host")]
    NoHost,
    #[error("the scheme {0:?} is not supported, only http is")]
    BadScheme(String),
    #[error("it goes on after the port with {0:?}")]
    Trailing(String),
}

impl HostPort {
    /// Whether it stands for every interface: nothing that another machine could connect to.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    /// What to listen on, the first that works. An empty host asks for both IP families: on Linux
    /// `[::]` takes IPv4 connections too, and fails where IPv6 is turned off.
    pub fn listen_on(&self) -> Vec<String> {
        match self.host.as_str() {
            "" => vec![format!("[::]:{}", self.port), format!("0.0.0.0:{}", self.port)],
            _ => vec![self.to_string()],
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<HostPort, AddrError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, port) =
                    rest.split_once(']').ok_or_else(|| AddrError::BadHost(text.to_owned()))?;
                inner
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| AddrError::BadHost(inner.to_owned()))?;
                (inner, port.strip_prefix(':').ok_or(AddrError::NoPort)?)
            }
            None => text.rsplit_once(':').ok_or(AddrError::NoPort)?,
        };
        let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !text.starts_with('[') && !host.bytes().all(name_byte) {
            return Err(AddrError::BadHost(host.to_owned()));
        }
        // Port 0 would let the system choose: other nodes remember an address, so it has to stay.
        // The digits are checked apart because `u16::from_str` takes "+1".
        match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(HostPort { host: host.to_owned(), port: number })
            }
            _ => Err(AddrError::BadPort(port.to_owned())),
        }
    }
}

/// Where a node's HTTP API is reached: written `http://host:port` or `host:port`, shown as the former.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpAddr(pub HostPort);

impl fmt::Display for HttpAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl FromStr for HttpAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<HttpAddr, AddrError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(AddrError::BadScheme(scheme.to_owned())),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(slash) = rest.find(['/', '?', '#']) {
            return Err(AddrError::Trailing(rest[slash..].to_owned()));
        }
        let addr: HostPort = rest.parse()?;
        match addr.host.is_empty() {
            true => Err(AddrError::NoHost),
            false => Ok(HttpAddr(addr)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_were_written() {
        for text in ["127.0.0.1:7001", "node-1.example:1", ":8081", "[::1]:65535", "conure_1:80"] {
            assert_eq!(text.parse::<HostPort>().map(|addr| addr.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn every_wildcard_is_known_as_one() {
        for text in [":1", "0.0.0.0:1", "[::]:1"] {
            assert!(text.parse::<HostPort>().unwrap().is_wildcard(), "{text}");
        }
        assert!(!"localhost:1".parse::<HostPort>().unwrap().is_wildcard());
    }

    #[test]
    fn what_is_no_address_says_why() {
        let why = |text: &str| text.parse::<HostPort>().unwrap_err();
        assert_eq!(why("node1"), AddrError::NoPort);
        assert_eq!(why("[::1]"), AddrError::NoPort);
        for port in ["", "0", "65536", "+1", "http"] {
            assert_eq!(why(&format!("node1:{port}")), AddrError::BadPort(port.to_owned()));
        }
        assert_eq!(why("::1:7001"), AddrError::BadHost("::1".to_owned()));
        assert_eq!(why("a b:7001"), AddrError::BadHost("a b".to_owned()));
        assert_eq!(why("[node1]:7001"), AddrError::BadHost("node1".to_owned()));
    }

    #[test]
    fn http_addresses_take_a_url_or_a_host_and_port() {
        let show = |text: &str| text.parse::<HttpAddr>().map(|addr| addr.to_string());
        assert_eq!(show("node1:8081"), Ok("http://node1:8081".to_owned()));
        assert_eq!(show("HTTP://[::1]:8081/"), Ok("http://[::1]:8081".to_owned()));
        assert_eq!(show("https://node1:8081"), Err(AddrError::BadScheme("https".to_owned())));
        assert_eq!(show("http://node1:8081/kv"), Err(AddrError::Trailing("/kv".to_owned())));
        assert_eq!(show("http://node1"), Err(AddrError::NoPort));
        assert_eq!(show(":8081"), Err(AddrError::NoHost));
    }
}
