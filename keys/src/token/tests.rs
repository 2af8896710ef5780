use proptest::prelude::*;

use super::*;
use spa_proto::SigningKey;

fn token(enrolment: TokenEnrolment) -> Token {
    Token {
        host: "fw.example.com".to_owned(),
        port: 62201,
        server: ServerPublic::from_bytes([1; 32]),
        cloak: Cloak::from_bytes([2; 16]),
        kid: Kid::from_bytes([3; 16]),
        psk: Psk::from_bytes([4; 32]),
        enrolment,
        services: ["ssh", "web"].map(|name| name.parse().unwrap()).to_vec(),
        lasting: BTreeMap::new(),
    }
}

fn with_secret() -> Token {
    token(TokenEnrolment::Secret {
        secret: EnrolSecret::from_bytes([5; 32]),
        expires: Timestamp::from_millis(1_800_000_000_000),
    })
}

fn with_key() -> Token {
    token(TokenEnrolment::Key(SigningKey::from_seed(&[6; 32]).verifying_key()))
}

fn payload(token: &Token) -> Vec<u8> {
    let line = token.encode();
    armour::read(PREFIX, line.strip_prefix(PREFIX).unwrap()).unwrap().to_vec()
}

fn decode_payload(payload: &[u8]) -> Result<Token, TokenError> {
    Token::decode(&armour::write(PREFIX, payload))
}

#[test]
fn reads_what_it_writes() {
    for token in [with_secret(), with_key()] {
        let line = token.encode();
        let read = Token::decode(&format!(" \t{}\r\n", &*line)).ok().unwrap();
        assert!(*read.encode() == *line, "no field is lost");
        assert_eq!(read.host, "fw.example.com");
        assert_eq!(read.port, 62201);
        assert_eq!(read.services, token.services, "in their order");
    }
}

/// The layout in the module's documentation.
#[test]
fn fields_are_where_they_are_documented() {
    let secret = payload(&with_secret());
    assert_eq!(secret[0], 0);
    assert_eq!(secret[1..3], 62201_u16.to_be_bytes());
    assert_eq!(secret[3..35], [1; 32]);
    assert_eq!(secret[35..51], [2; 16]);
    assert_eq!(secret[51..67], [3; 16]);
    assert_eq!(secret[67..99], [4; 32]);
    assert_eq!(secret[99..131], [5; 32]);
    assert_eq!(secret[131..139], 1_800_000_000_000_u64.to_be_bytes());
    assert_eq!(secret[139..], *b"\x0efw.example.com\x02\x03ssh\x03web");

    let key = payload(&with_key());
    assert_eq!(key[0], 1);
    assert_eq!(key[99..131], SigningKey::from_seed(&[6; 32]).verifying_key().to_bytes());
    assert_eq!(key[131..139], [0; 8]);
}

/// Where all are known, or only the second.
fn with_times() -> [Token; 2] {
    let times = |names: &[&str]| {
        names.iter().map(|name| (name.parse().unwrap(), NonZeroU32::new(300).unwrap())).collect()
    };
    [
        Token { lasting: times(&["ssh", "web"]), ..with_secret() },
        Token { lasting: times(&["web"]), ..with_key() },
    ]
}

#[test]
fn times_follow_the_services() {
    let tokens = with_times();
    let before = [with_secret(), with_key()];
    let expected = [[0, 0, 1, 44, 0, 0, 1, 44], [0, 0, 0, 0, 0, 0, 1, 44]];
    for ((token, before), times) in tokens.iter().zip(&before).zip(expected) {
        let (with, without) = (payload(token), payload(before));
        assert_eq!(with[0], without[0] + 2);
        assert_eq!(with[1..], [&without[1..], &times].concat());
        assert!(decode_payload(&with).is_ok_and(|read| read.lasting == token.lasting));
        assert!(decode_payload(&without).is_ok_and(|read| read.lasting.is_empty()));
        for wrong in [&with[..with.len() - 1], &[&with[..], &[0]].concat(), &with[..without.len()]]
        {
            assert_eq!(decode_payload(wrong).err(), Some(TokenError::Contents));
        }
        let unknown = [&with[..without.len()], &[0; 8]].concat();
        assert_eq!(
            decode_payload(&unknown).err(),
            Some(TokenError::Contents),
            "two ways to say it"
        );
    }
}

/// Computed by other means than this program.
#[test]
fn tokens_of_this_version_stay_readable() {
    let line = concat!(
        "spa1.APL5AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAwMDAwMDAwMDAwMD",
        "AwMDAwQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF",
        "BQUAAAGjGFxQAA5mdy5leGFtcGxlLmNvbQIDc3NoA3dlYs3_X7zFPA"
    );
    assert!(*with_secret().encode() == line);
    assert!(Token::decode(line).is_ok());
}

#[test]
fn every_changed_character_is_refused() {
    let line = with_secret().encode();
    for at in 0..line.len() {
        for other in ' '..='~' {
            let mut changed = line.as_str().to_owned();
            changed.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
            if changed != *line {
                assert!(Token::decode(&changed).is_err(), "{at} {other:?}");
            }
        }
    }
}

#[test]
fn every_lost_added_or_swapped_character_is_refused() {
    let line = with_secret().encode();
    let text = line.as_str();
    for at in 0..text.len() {
        let (head, tail) = text.split_at(at);
        assert!(Token::decode(&format!("{head}{}", &tail[1..])).is_err(), "without {at}");
        assert!(Token::decode(head).is_err(), "cut at {at}");
        for added in ["A", "\n", " ", "=", "ä"] {
            let broken = format!("{head}{added}{tail}");
            assert!(at == 0 || Token::decode(&broken).is_err(), "{added:?} at {at}");
        }
        let swapped = format!(
            "{head}{}{}{}",
            &tail[1..tail.len().min(2)],
            &tail[..1],
            &tail[tail.len().min(2)..]
        );
        assert!(swapped == text || Token::decode(&swapped).is_err(), "swapped at {at}");
    }
}

#[test]
fn says_what_it_was_given_instead() {
    let line = with_secret().encode();
    let key_line = crate::PublicKeyLine::encode(&SigningKey::from_seed(&[6; 32]));
    for (text, error) in [
        ("", TokenError::NotAToken),
        ("hello", TokenError::NotAToken),
        ("spa.AAAA", TokenError::NotAToken),
        (&key_line, TokenError::PublicKeyLine),
        (&line.replacen("spa1", "spa2", 1), TokenError::Version),
        ("spa10.AAAA", TokenError::Version),
        ("spa1.", TokenError::Damaged),
        (&line[..100], TokenError::Damaged),
        (&format!("{}\n{}", &line[..80], &line[80..]), TokenError::Damaged),
        (&"spa1.A".repeat(10_000), TokenError::Damaged),
    ] {
        assert_eq!(Token::decode(text).err(), Some(error), "{text:?}");
    }
}

#[test]
fn what_the_server_never_writes_is_refused() {
    let good = payload(&with_key());
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed.splice(at..at + bytes.len(), bytes.iter().copied());
        changed
    };
    let cases = [
        ("kind without times", with(0, &[3])),
        ("port", with(1, &[0, 0])),
        ("weak key", with(99, &[0; 32])),
        ("date with a key", with(138, &[1])),
        ("host", with(140, b"-")),
        ("control character in the host", with(141, b"\x1b")),
        ("no UTF-8 in the host", with(141, b"\xff")),
        ("no services", [&good[..154], &[0]].concat()),
        ("same service twice", [&good[..154], b"\x02\x03ssh\x03ssh"].concat()),
        ("no service", [&good[..154], b"\x01\x03SSH"].concat()),
        ("more behind", [&good[..], &[0]].concat()),
        ("nothing", Vec::new()),
    ];
    assert!(decode_payload(&good).is_ok());
    for (what, payload) in cases {
        assert_eq!(decode_payload(&payload).err(), Some(TokenError::Contents), "{what}");
    }
    for len in 0..good.len() {
        assert_eq!(decode_payload(&good[..len]).err(), Some(TokenError::Contents), "cut at {len}");
    }
}

/// Kinds come within a version (protocol §13): whoever has one that came since needs a newer spa, and
/// not another token.
#[test]
fn a_kind_that_came_since_is_of_a_later_spa() {
    for kind in [4, 5, 255] {
        let mut later = payload(&with_key());
        later[0] = kind;
        for payload in [&later[..], &later[..1], &[&later[..], &[0; 9]].concat()] {
            assert_eq!(decode_payload(payload).err(), Some(TokenError::Version), "kind {kind}");
        }
    }
    assert!(TokenError::Version.to_string().contains("update spa"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Token::decode(&text);
        let _ = Token::decode(&format!("{PREFIX}{text}"));
        let _ = crate::PublicKeyLine::decode(&format!("{}{text}", proof::PREFIX));
    }

    /// What decodes is the one encoding of what it decodes to.
    #[test]
    fn no_payload_makes_it_panic(mut tail in prop::collection::vec(any::<u8>(), 0..80), at in 0_usize..160) {
        let mut payload = payload(&with_secret());
        payload.truncate(at);
        payload.append(&mut tail);
        let line = armour::write(PREFIX, &payload);
        if let Ok(token) = Token::decode(&line) {
            prop_assert!(*token.encode() == *line);
        }
    }
}

fn sealed() -> SealedToken {
    SealedToken::seal(&with_secret(), "correct horse", [7; 16]).unwrap()
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    for token in [with_secret(), with_key()] {
        let line = SealedToken::seal(&token, "correct horse", [7; 16]).unwrap().encode();
        assert!(SealedToken::is_one(&line) && !SealedToken::is_one(&token.encode()));
        let read = SealedToken::decode(&format!(" {}\r\n", *line)).ok().unwrap();
        assert!(*read.open("correct horse").ok().unwrap().encode() == *token.encode());
        assert_eq!(read.open("Correct horse").err(), Some(TokenError::Passphrase));
        let bytes = armour::read(sealed::PREFIX, line.strip_prefix(sealed::PREFIX).unwrap());
        let in_clear = bytes.unwrap().windows(3).any(|bytes| bytes == b"fw.");
        assert!(!in_clear, "nothing of it stands in clear");
    }
}

/// The layout in the module's documentation.
#[test]
fn sealed_fields_are_where_they_are_documented() {
    let line = sealed().encode();
    let bytes = armour::read(sealed::PREFIX, line.strip_prefix(sealed::PREFIX).unwrap()).unwrap();
    assert_eq!(bytes[..12], [0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
    assert_eq!(bytes[12..28], [7; 16]);
    assert_eq!(bytes.len(), 28 + payload(&with_secret()).len() + 16);
}

#[test]
fn what_is_sealed_cannot_be_changed() {
    let line = sealed().encode();
    let bytes = armour::read(sealed::PREFIX, line.strip_prefix(sealed::PREFIX).unwrap()).unwrap();
    let open = |bytes: &[u8]| {
        let line = armour::write(sealed::PREFIX, bytes);
        SealedToken::decode(&line).and_then(|sealed| sealed.open("correct horse")).err()
    };
    // Each part: passes, salt, sealed, tag.
    for at in [7, 12, 28, 100, bytes.len() - 1] {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert_eq!(open(&changed), Some(TokenError::Passphrase), "byte {at}");
    }
    let mut endless = bytes.to_vec();
    endless[4] = 1;
    assert_eq!(open(&endless), Some(TokenError::Cost));
    // Twice as many passes are slow, and not refused; more than that a stranger may not ask for.
    endless = bytes.to_vec();
    endless[7] = 7;
    assert_eq!(open(&endless), Some(TokenError::Cost));
    assert_eq!(open(&bytes[..20]), Some(TokenError::Contents));
    assert_eq!(open(&bytes[..30]), Some(TokenError::Passphrase));
}

#[test]
fn sealed_lines_are_told_from_others() {
    let line = sealed().encode();
    assert_eq!(Token::decode(&line).err(), Some(TokenError::Sealed));
    assert_eq!(SealedToken::decode(&line[..line.len() - 1]).err(), Some(TokenError::Damaged));
    assert_eq!(SealedToken::decode(&with_secret().encode()).err(), Some(TokenError::NotAToken));
}
