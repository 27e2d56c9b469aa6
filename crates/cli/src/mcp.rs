//! `tapline mcp`: the questions of agents, over the Model Context Protocol.
//!
//! The answers are those of `tapline why`, `requests`, `status` and so on, in their words; what is added here is that each
//! fits into a number of bytes, that its secrets are removed, and that nothing that a page wrote can look like a part of it.

// In reading order.
mod tools;
mod answers;
mod budget;
mod http;

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer, ServerInitializeError, ServiceExt as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::args::mcp::Mcp;
use crate::failure::Failure;
use crate::{inputs, token};
use answers::{Answer, Answers};
use tools::{Arguments, TOOLS, ToolSpec};

pub(crate) async fn run(args: Mcp) -> Result<(), Failure> {
    // Wrong flags end the program, and not each call.
    match &args.file {
        Some(file) => inputs::check(file)?,
        None => drop(token::client(&args.remote)?),
    }
    let token = token::source(args.remote.token_file.as_deref())?;
    let server = Server(Arc::new(Answers::new(
        args.remote,
        args.file,
        args.read_only,
    )));
    if let Some(address) = args.listen {
        return http::serve(address, token, server).await;
    }
    let running = server.serve(rmcp::transport::io::stdio()).await;
    let running = running.map_err(|error| match error {
        ServerInitializeError::ConnectionClosed(_) => Failure::NoAgent,
        error => Failure::Protocol(error.into()),
    })?;
    // Until standard input ends.
    let ended = running.waiting().await;
    ended
        .map(drop)
        .map_err(|error| Failure::Protocol(error.into()))
}

/// What the protocol's library calls.
#[derive(Clone)]
struct Server(Arc<Answers>);

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("tapline", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(tools::INSTRUCTIONS.to_owned());
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let offered = TOOLS.iter().filter(|tool| self.0.offers(tool));
        let tools = offered.map(ToolSpec::tool).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    /// Cancel safety: a call that is cancelled ends at its next step; a session that it was starting or stopping may have
    /// started or stopped.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let offered = TOOLS.iter().filter(|tool| self.0.offers(tool));
        let Some(tool) = offered.clone().find(|it| it.name == request.name) else {
            let names: Vec<_> = offered.map(|it| it.name).collect();
            let text = format!("there is no such tool; there are {}", names.join(", "));
            return Err(ErrorData::invalid_params(text, None));
        };
        let arguments = match Arguments::read(tool, request.arguments) {
            Ok(arguments) => arguments,
            // The agent can correct it, so it is an answer.
            Err(text) => return Ok(refused(text).into()),
        };
        let (answers, runtime) = (self.0.clone(), Handle::current());
        // Reading a file blocks.
        let call = spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    answer = answers.answer(tool, &arguments) => answer,
                    () = context.ct.cancelled() => Err("the call was cancelled".to_owned()),
                }
            })
        });
        Ok(match call.await {
            Ok(Ok(Answer::Text(text))) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Ok(Ok(Answer::Picture { text, png })) => CallToolResult::success(vec![
                ContentBlock::text(text),
                ContentBlock::image(png, "image/png"),
            ]),
            Ok(Err(text)) => refused(text),
            Err(_) => refused("the call failed inside Tapline".to_owned()),
        }
        .into())
    }
}

fn refused(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
