//! Hooks that can be trusted to be what root has written: looked at when the
//! configuration is read, since looking may take long.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;

use super::Event;
use crate::config::{Config, HookCommand, HooksConfig};
use crate::kept;
use crate::privileges::Identity;

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What is run, as whom.
#[derive(Debug)]
pub struct Checked {
    pub(super) on_grant: Option<HookCommand>,
    pub(super) on_end: Option<HookCommand>,
    pub(super) identity: Identity,
    pub(super) timeout: Duration,
}

impl Checked {
    /// What is run when this happens.
    pub(super) fn command(&self, event: Event) -> Option<&HookCommand> {
        match event {
            Event::Granted { .. } => self.on_grant.as_ref(),
            Event::Ended(_) => self.on_end.as_ref(),
        }
    }

    /// Looks at the user, the programs and the directories that they are in; `None`
    /// where there are no hooks.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn of(config: &Config) -> Result<Option<Self>, String> {
        let Some(hooks) = &config.hooks else { return Ok(None) };
        let HooksConfig { on_grant, on_end, timeout, .. } = hooks.clone();
        let identity = identity(&hooks.user, &config.user)?;
        for command in [&on_grant, &on_end].into_iter().flatten() {
            only_roots(&command.program)?;
        }
        Ok(Some(Self { on_grant, on_end, identity, timeout }))
    }
}

fn identity(user: &str, gatekeeper: &str) -> Result<Identity, String> {
    let found = User::from_name(user).map_err(|error| format!("[hooks] user {user}: {error}"))?;
    let found = found.ok_or_else(|| {
        format!(
            "[hooks]: no such user: {user}; make one with: useradd --system --no-create-home \
             --shell /usr/sbin/nologin {user}"
        )
    })?;
    let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
    let other = User::from_name(gatekeeper).ok().flatten().map(|user| user.uid.as_raw());
    match uid {
        0 => Err(format!("[hooks]: {user} has root's id: hooks run as somebody else")),
        _ if Some(uid) == other => Err(format!(
            "[hooks]: {user} has the id of {gatekeeper}, who the gatekeeper runs as: take another"
        )),
        _ => Ok(Identity { uid, gid }),
    }
}

/// Whoever can write to a program, or put another in its place, decides what it does.
fn only_roots(program: &Path) -> Result<(), String> {
    let fault = |path: &Path, what: &str| format!("[hooks]: {}: {what}", path.display());
    let way = way(program).map_err(|error| fault(program, &error.to_string()))?;
    let executable = fs::metadata(program)
        .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0);
    if !executable {
        return Err(fault(program, "no program: a file that may be executed is needed"));
    }
    for path in way.iter().rev() {
        let metadata =
            fs::symlink_metadata(path).map_err(|error| fault(path, &error.to_string()))?;
        if !kept::is_ours_alone(&metadata) {
            let path = path.display();
            return Err(format!(
                "[hooks]: others than root can write to {path}, and so decide what {} does: run \
                 chown root {path} and chmod go-w {path}, or put the program elsewhere",
                program.display()
            ));
        }
    }
    Ok(())
}

/// What the way to a program leads through, itself included: where a link stands, and where it
/// leads to.
fn way(program: &Path) -> io::Result<Vec<PathBuf>> {
    let parts = |path: &Path| path.iter().rev().map(OsStr::to_owned).collect::<Vec<_>>();
    let (mut way, mut at, mut left) = (Vec::new(), PathBuf::new(), parts(program));
    let mut links = 0;
    while let Some(part) = left.pop() {
        let next = match part.to_str() {
            Some(".") => continue,
            Some("..") => at.parent().unwrap_or(&at).to_owned(),
            _ => at.join(part),
        };
        if fs::symlink_metadata(&next)?.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            left.extend(parts(&fs::read_link(&next)?));
        } else {
            way.push(next.clone());
            at = next;
        }
    }
    Ok(way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(program: &str, user: &str) -> Result<Option<Checked>, String> {
        let text = format!(
            "user = \"bin\"\n[hooks]\non-end = [\"{program}\"]\nuser = \"{user}\"\n[service.ssh]\nport = 22\n"
        );
        Checked::of(&Config::parse(&text).unwrap())
    }

    #[test]
    fn a_program_of_roots_is_taken() {
        let checked = with("/bin/sh", "nobody").unwrap().unwrap();
        assert_ne!(checked.identity.uid, 0);
        assert!(
            Checked::of(&Config::parse("[service.ssh]\nport = 22\n").unwrap()).unwrap().is_none()
        );
    }

    #[test]
    fn what_others_can_write_to_is_refused() {
        // Above it is a directory for everybody's files.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let program = dir.path().join("hook");
        fs::copy("/bin/true", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert!(with(&text(&program), "nobody").unwrap_err().contains("write to /tmp,"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(only_roots(&program).unwrap_err().contains("hook, and so decide"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        assert!(
            with(&text(&link), "nobody")
                .unwrap_err()
                .contains("others than root can write to /tmp")
        );
        for (program, part) in [
            ("/nowhere/hook", "No such file"),
            ("/etc/passwd", "no program"),
            ("/etc", "no program"),
        ] {
            assert!(with(program, "nobody").unwrap_err().contains(part), "{program}");
        }
    }

    #[test]
    fn a_way_leads_through_what_each_of_its_links_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        fs::create_dir(at("theirs")).unwrap();
        link("./theirs/../theirs/on", "hooks");
        link("/etc", "theirs/on");
        let way = way(&at("hooks/passwd")).unwrap();
        let real = dir.path().canonicalize().unwrap();
        for path in [Path::new("/"), &real, &real.join("theirs"), Path::new("/etc/passwd")] {
            assert!(way.iter().any(|passed| passed == path), "{path:?} in {way:?}");
        }
        assert!(way.iter().all(|path| !path.is_symlink()), "{way:?}");
        link("round", "round");
        assert!(super::way(&at("round")).is_err());
    }

    #[test]
    fn a_user_of_its_own_is_needed() {
        assert!(with("/bin/true", "no-such-user").unwrap_err().contains("useradd"));
        let text = "user = \"nobody\"\n[hooks]\non-end = [\"/bin/true\"]\nuser = \"no-other\"\n[service.ssh]\nport = 22\n";
        assert!(Config::parse(text).is_ok());
        assert!(identity("nobody", "nobody").unwrap_err().contains("gatekeeper"));
        assert!(identity("root", "spad").unwrap_err().contains("root's id"));
    }
}
