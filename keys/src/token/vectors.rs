//! The lines of protocol §14, which another implementation has made: read and written here.

use std::path::PathBuf;

use spa_proto::SigningKey;

use super::*;
use crate::PublicKeyLine;
use crate::encoding::from_hex;

/// What a file says, but its comments.
type Fields = BTreeMap<String, String>;

/// Each file by its name.
fn files() -> BTreeMap<String, Fields> {
    let dir = PathBuf::from_iter([env!("CARGO_MANIFEST_DIR"), "../spa-proto/tests/vectors/lines"]);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let file = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        (entry.file_name().into_string().unwrap(), fields)
    };
    entries.map(file).collect()
}

fn bytes<const N: usize>(fields: &Fields, key: &str) -> [u8; N] {
    *from_hex(&fields[key]).unwrap()
}

fn token_of(fields: &Fields) -> Token {
    let services: Vec<ServiceName> =
        fields["services"].split(' ').map(|name| name.parse().unwrap()).collect();
    let times = fields.get("seconds").into_iter().flat_map(|times| times.split(' '));
    let times = services.iter().copied().zip(times.map(|time| time.parse().unwrap()));
    Token {
        host: fields["host"].clone(),
        port: fields["port"].parse().unwrap(),
        server: ServerPublic::from_bytes(bytes(fields, "S")),
        cloak: Cloak::from_bytes(bytes(fields, "cloak")),
        kid: Kid::from_bytes(bytes(fields, "kid")),
        psk: Psk::from_bytes(bytes(fields, "psk")),
        enrolment: enrolment_of(fields),
        lasting: times.filter_map(|(name, time)| Some((name, NonZeroU32::new(time)?))).collect(),
        services,
    }
}

fn enrolment_of(fields: &Fields) -> TokenEnrolment {
    if fields.contains_key("key") {
        return TokenEnrolment::Key(VerifyingKey::from_bytes(&bytes(fields, "key")).unwrap());
    }
    TokenEnrolment::Secret {
        secret: EnrolSecret::from_bytes(bytes(fields, "secret")),
        expires: Timestamp::from_millis(fields["expires"].parse().unwrap()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Field by field: a mistake that reading and writing share shows here.
fn fields_of(token: &Token) -> Fields {
    let listed = |each: &dyn Fn(&ServiceName) -> String| {
        token.services.iter().map(each).collect::<Vec<_>>().join(" ")
    };
    let mut fields = vec![
        ("host", token.host.clone()),
        ("port", token.port.to_string()),
        ("S", hex(token.server.as_bytes())),
        ("cloak", hex(token.cloak.expose())),
        ("kid", hex(token.kid.as_bytes())),
        ("psk", hex(token.psk.expose())),
        ("services", listed(&ToString::to_string)),
    ];
    match &token.enrolment {
        TokenEnrolment::Secret { secret, expires } => fields.extend([
            ("secret", hex(secret.expose())),
            ("expires", expires.as_millis().to_string()),
        ]),
        TokenEnrolment::Key(key) => fields.push(("key", hex(&key.to_bytes()))),
    }
    if !token.lasting.is_empty() {
        let seconds = |name: &_| token.lasting.get(name).map_or(0, |time| time.get());
        fields.push(("seconds", listed(&|name| seconds(name).to_string())));
    }
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Checks a token's file, and says of which kind it is.
fn check_token(fields: &Fields, name: &str) -> String {
    let line = &fields["line"];
    let mut said = fields.clone();
    said.remove("line");
    let token = Token::decode(line).ok().unwrap();
    assert_eq!(fields_of(&token), said, "{name}: read");
    assert_eq!(*token_of(fields).encode(), *line, "{name}: written");
    format!("kind {}", token.payload()[0])
}

fn check_sealed(fields: &Fields, name: &str) -> String {
    let (line, passphrase) = (&fields["line"], &fields["passphrase"]);
    let opened = SealedToken::decode(line).ok().unwrap().open(passphrase);
    if let Some(expected) = fields.get("expect") {
        assert_eq!(expected, "too-dear", "{name}");
        assert_eq!(opened.err(), Some(TokenError::Cost), "{name}: refused");
        return "sealed, too dear".to_owned();
    }
    let opened = opened.ok().unwrap();
    assert_eq!(*opened.encode(), fields["token"], "{name}: read");
    if fields.contains_key("cost") {
        return "sealed, of another cost".to_owned();
    }
    let sealed = SealedToken::seal(&opened, passphrase, bytes(fields, "salt")).unwrap();
    assert_eq!(*sealed.encode(), *line, "{name}: written");
    "sealed".to_owned()
}

fn check_key_line(fields: &Fields, name: &str) -> String {
    let line = &fields["line"];
    let read = PublicKeyLine::decode(line).unwrap();
    assert_eq!(hex(&read.key.to_bytes()), fields["key"], "{name}: read");
    let key = SigningKey::from_seed(&bytes(fields, "seed"));
    assert_eq!(PublicKeyLine::encode(&key), *line, "{name}: written");
    "key line".to_owned()
}

#[test]
fn every_line_is_read_and_written_as_its_file_says() {
    let check = |(name, fields): (String, Fields)| match () {
        () if fields.contains_key("passphrase") => check_sealed(&fields, &name),
        () if fields.contains_key("seed") => check_key_line(&fields, &name),
        () => check_token(&fields, &name),
    };
    let mut seen: Vec<_> = files().into_iter().map(check).collect();
    seen.sort();
    seen.dedup();
    let sealed = ["sealed", "sealed, of another cost", "sealed, too dear"];
    assert_eq!(seen, [&["key line", "kind 0", "kind 1", "kind 2", "kind 3"], &sealed[..]].concat());
}
