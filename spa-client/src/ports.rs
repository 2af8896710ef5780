//! At which port a service shows that it is open.

use std::num::NonZeroU16;

use spa_proto::{Protocol, Service};

/// What services of these names listen on nearly everywhere (IANA). The
/// server's configuration decides what a name opens; this is only a guess of
/// where to look.
const WELL_KNOWN: [(&str, u16); 28] = [
    ("ftp", 21),
    ("git", 9418),
    ("http", 80),
    ("https", 443),
    ("imap", 143),
    ("imaps", 993),
    ("ldap", 389),
    ("ldaps", 636),
    ("mariadb", 3306),
    ("mqtt", 1883),
    ("mqtts", 8883),
    ("mysql", 3306),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("rdp", 3389),
    ("redis", 6379),
    ("rsync", 873),
    ("rtsp", 554),
    ("sftp", 22),
    ("smb", 445),
    ("smtp", 25),
    ("smtps", 465),
    ("ssh", 22),
    ("submission", 587),
    ("telnet", 23),
    ("vnc", 5900),
];

/// Of sshd, where nobody says otherwise.
pub(crate) const SSH: NonZeroU16 = NonZeroU16::new(22).unwrap();

/// The TCP port of a service, if that can be told without asking the server.
pub(crate) fn tcp_port(service: Service) -> Option<NonZeroU16> {
    match service {
        Service::Port(Protocol::Tcp, port) => NonZeroU16::new(port),
        Service::Port(Protocol::Udp, _) => None,
        Service::Named(name) => {
            let (_, port) = WELL_KNOWN.iter().find(|(known, _)| *known == name.as_str())?;
            NonZeroU16::new(*port)
        }
    }
}

/// Which of a token's services lets ssh in at this port: the one of that name, else the one that
/// is there nearly everywhere, else the first.
pub(crate) fn for_ssh(services: &[Service], port: NonZeroU16) -> Option<Service> {
    let by_name = services.iter().find(|service| service.to_string() == "ssh");
    let by_port = || services.iter().find(|service| tcp_port(**service) == Some(port));
    by_name.or_else(by_port).or(services.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(service: &str) -> Option<u16> {
        tcp_port(service.parse().unwrap()).map(u16::from)
    }

    #[test]
    fn only_what_is_certain_enough() {
        assert_eq!(port("ssh"), Some(22));
        assert_eq!(port("https"), Some(443));
        assert_eq!(port("tcp/8443"), Some(8443));
        assert_eq!(port("udp/53"), None);
        assert_eq!(port("nas"), None);
    }
}
