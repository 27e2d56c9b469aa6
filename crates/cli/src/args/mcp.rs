//! The flags of `tapline mcp`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;

use super::Remote;
use crate::units;

#[derive(Debug, clap::Args)]
#[command(after_help = MCP_EXAMPLES)]
pub(crate) struct Mcp {
    /// Answer about a file of events instead of a server: NDJSON, plain or compressed with zstd, such as a dump,
    /// or what `tapline tail --json` printed; or about the directory of an archive
    #[arg(value_name = "FILE")]
    #[arg(env = "TAPLINE_FILE", hide_env_values = true)]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Listen for agents on this loopback address (streamable HTTP, at /mcp), instead of reading standard input; port 0
    /// takes a free port. If a token is given, agents have to send it, too
    #[arg(long, value_name = "ADDR:PORT", value_parser = units::address)]
    #[arg(env = "TAPLINE_MCP_LISTEN", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,

    /// Offer no tool that starts or stops a session
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_MCP_READ_ONLY", hide_env_values = true)]
    pub(crate) read_only: bool,
}

const MCP_EXAMPLES: &str = "\
An agent starts this program and talks to it over standard input and output. Answers are short texts within a number \
of bytes that the agent sets; each says what it left out and how to get it. Values whose names suggest a \
secret become *redacted*.

Examples:
  tapline mcp --url http://127.0.0.1:10001
  tapline mcp dumps/page_crashed.ndjson.zst
  tapline mcp --listen 127.0.0.1:10002 --token-file token";
