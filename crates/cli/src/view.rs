//! `tapline view`: a file of events, or a HAR, in the live page.

use tapline_insight::{BundleWriter, Input, Sanitizer};
use tapline_server::{serve_document, standalone};
use tokio::net::TcpListener;

use crate::args::View;
use crate::failure::{Failure, say};
use crate::figures::counted;
use crate::inputs::{self, Content, Wanted};
use crate::signals;

pub(crate) async fn run(args: View) -> Result<(), Failure> {
    let html = page(&args)?;
    let stop = signals::stop_requested().map_err(Failure::Serve)?;
    let address = args.listen;
    if !address.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "--listen {address} is not a loopback address, and the file may hold secrets; listen on one such as 127.0.0.1"
        )));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Failure::Listen { address, source })?;
    let address = listener.local_addr().map_err(Failure::Serve)?;
    println!("listening on http://{address}");
    say("open this address in a browser; Ctrl-C ends it");
    serve_document(listener, html, stop).await;
    Ok(())
}

/// The page with what is in the file.
fn page(args: &View) -> Result<Vec<u8>, Failure> {
    let page = standalone();
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let unreadable = |source| Failure::Read {
        what: args.file.display().to_string(),
        source,
    };
    let html = page.before.clone().into_bytes();
    let mut bundle = BundleWriter::in_html(html, &name, Sanitizer::off()).map_err(unreadable)?;
    let wanted = Wanted {
        since: args.since.as_deref(),
        until: args.until.as_deref(),
        ..Wanted::default()
    };
    let feed = &mut |input: Input<'_>| bundle.feed(input).map_err(unreadable);
    let unread = match inputs::read_file(&args.file, wanted, "reading", feed)? {
        Content::Events(unread) => unread,
        Content::Har(har) => {
            let requests = har.requests();
            say(&format!(
                "{name}: a HAR of {}; it has no events",
                counted(requests as u64, "request")
            ));
            bundle.har(har).map_err(unreadable)?;
            let (mut html, _) = bundle.finish().map_err(unreadable)?;
            html.extend_from_slice(page.after.as_bytes());
            return Ok(html);
        }
    };
    let (mut html, tally) = bundle.finish().map_err(unreadable)?;
    html.extend_from_slice(page.after.as_bytes());
    let mut text = format!("{name}: {}", counted(tally.events, "event"));
    if 0 < unread.lines {
        text.push_str(&format!(
            ", {} without an event",
            counted(unread.lines, "line")
        ));
    }
    if let Some(error) = &unread.cut {
        text.push_str(&format!(
            "; the rest of the file could not be read: {error}"
        ));
    }
    say(&text);
    Ok(html)
}
