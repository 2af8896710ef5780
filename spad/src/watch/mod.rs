//! `spad watch`: what happens, while it happens.

pub mod view;

use std::io::{self, BufRead, BufReader, ErrorKind, Write, stdout};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::audit::{Event, Kind};
use crate::clock;
use crate::control::client::{self, Unheard};
use crate::control::{Answer, Request};
use crate::log::line;
use crate::show::style::Style;
use view::View;

/// How often the page is drawn anew.
const PAUSE: Duration = Duration::from_secs(1);
/// From the top, and nothing below what is drawn.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows events until the daemon ends: on a terminal as a page that is drawn anew each
/// second, elsewhere as lines.
///
/// # Errors
/// Where there is no daemon to ask, or no more, or it does not tell who asks.
pub fn run(run_dir: &Path, json: bool) -> Result<(), Unheard> {
    let style = Style::of_stdout();
    let stream = client::watch(run_dir)?;
    let shown = if style.terminal && !json {
        View::of(run_dir).and_then(|view| draw(stream, view, run_dir, &style))
    } else {
        print(stream, json)
    };
    match shown {
        // Whoever reads may stop reading.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.to_string().into()),
        Ok(()) => Err("spad has ended".to_owned().into()),
    }
}

fn print(stream: UnixStream, json: bool) -> io::Result<()> {
    for text in BufReader::new(stream).lines() {
        let text = text?;
        let Some(event) = Event::from_line(&text) else { continue };
        let text = if json { text } else { line::text(&event) };
        let mut out = stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    Ok(())
}

fn draw(stream: UnixStream, mut view: View, run_dir: &Path, style: &Style) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut begun = Vec::new();
    loop {
        let mut out = stdout().lock();
        // The window may have another size by now.
        let style = Style { width: Style::of_stdout().width, ..*style };
        write!(out, "{CLEAR}{}", view.page(clock::wall(), &style))?;
        out.flush()?;
        let until = Instant::now() + PAUSE;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|t| !t.is_zero())
        {
            reader.get_ref().set_read_timeout(Some(left))?;
            match reader.read_until(b'\n', &mut begun) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
            let event = Event::from_line(&String::from_utf8_lossy(&begun));
            begun.clear();
            let Some(event) = event else { continue };
            if event.event == Kind::Lost {
                // What was missed may have been a grant.
                view.begin_again(View::of(run_dir)?);
            }
            view.take(event);
        }
    }
}

impl View {
    /// How things are now.
    fn of(run_dir: &Path) -> io::Result<Self> {
        let ask = |request| client::ask(run_dir, &request).map_err(io::Error::other);
        let (Answer::Grants(grants), Answer::Sessions(sessions)) =
            (ask(Request::Grants)?, ask(Request::Sessions)?)
        else {
            return Err(io::Error::other("spad answers something else"));
        };
        Ok(Self::new(&grants, sessions.len(), clock::wall()))
    }
}
