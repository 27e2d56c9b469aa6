//! The served OpenAPI document, with tools of others that check it and make clients of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::http::ask;
use crate::peer;
use crate::program::{Directory, Running, Said, Server};

/// Each takes some five seconds on a quick machine. This only ends a run that hangs.
const LONGEST: Duration = Duration::from_secs(200);

/// The document of a server, and a directory for what is made of it.
struct Document {
    server: Server,
    directory: Directory,
    tools: PathBuf,
}

impl Document {
    /// None where the tools are not installed.
    fn served(name: &str) -> Option<Self> {
        let tools = peer::installed("generators");
        let tools = peer::or_skip(tools, "tools for OpenAPI", "TAPLINE_REQUIRE_PEERS")?;
        let server = Server::start();
        let directory = Directory::new(name);
        let answer = ask(server.address(), "GET", "/openapi.json", "");
        assert_eq!(answer.status, 200);
        fs::write(directory.path("openapi.json"), answer.body).unwrap();
        Some(Self {
            server,
            directory,
            tools,
        })
    }

    /// Runs a tool in the directory, and returns what it said. It must end well.
    #[track_caller]
    fn run(&self, tool: &str, args: &[&str]) -> Said {
        let mut command = Command::new(self.tools.join(tool));
        command
            .args(args)
            .current_dir(self.directory.path("."))
            // They report what they do to their makers unless these say no.
            .env("REDOCLY_TELEMETRY", "off")
            .env("DO_NOT_TRACK", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let said = Running::start(command).end_within(LONGEST);
        assert_eq!(said.code, Some(0), "{tool}: {}\n{}", said.out, said.err);
        said
    }

    /// Compiles what was generated, with every check on.
    #[track_caller]
    fn compile(&self, files: &[&str]) {
        let mut args = vec!["--noEmit", "--strict", "--skipLibCheck"];
        args.extend(["--target", "es2022", "--lib", "es2022,dom,dom.iterable"]);
        args.extend(["--module", "esnext", "--moduleResolution", "bundler"]);
        args.extend(files);
        self.run("node_modules/.bin/tsc", &args);
    }
}

#[test]
fn redocly_finds_nothing() {
    let Some(document) = Document::served("redocly") else {
        return;
    };
    // The notices of a stream are described, and no operation can refer to them: OpenAPI has no such place.
    let args = [
        "lint",
        "openapi.json",
        "--skip-rule",
        "no-unused-components",
    ];
    let said = document.run("node_modules/.bin/redocly", &args);
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("Your API description is valid"), "{all}");
    assert!(
        !all.contains("warning was generated") && !all.contains("You have"),
        "{all}"
    );
}

#[test]
fn spectral_finds_nothing() {
    let Some(document) = Document::served("spectral") else {
        return;
    };
    let rules = document.directory.path("rules.yaml");
    fs::write(&rules, "extends: ['spectral:oas']\n").unwrap();
    let args = [
        "lint",
        "openapi.json",
        "--ruleset",
        &rules,
        "--fail-severity",
        "hint",
    ];
    document.run("node_modules/.bin/spectral", &args);
}

#[test]
fn typescript_types_compile() {
    let Some(document) = Document::served("openapi-typescript") else {
        return;
    };
    let args = ["openapi.json", "-o", "types.ts"];
    document.run("node_modules/.bin/openapi-typescript", &args);
    let types = fs::read_to_string(document.directory.path("types.ts")).unwrap();
    assert!(types.contains("\"/telemetry/stream\""), "{types}");
    document.compile(&["types.ts"]);
}

#[test]
fn a_typescript_client_compiles() {
    let Some(document) = Document::served("openapi-ts") else {
        return;
    };
    let args = ["-i", "openapi.json", "-o", "client"];
    document.run("node_modules/.bin/openapi-ts", &args);
    document.compile(&["client/sdk.gen.ts", "client/client.gen.ts"]);
}

#[test]
fn a_python_client_calls_the_server() {
    let Some(document) = Document::served("openapi-python-client") else {
        return;
    };
    let args = [
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "made",
    ];
    let said = document.run("bin/openapi-python-client", &args);
    let all = format!("{}{}", said.out, said.err);
    // It does not know NDJSON, and leaves it out of the two operations that take it beside another content type.
    let unsupported = "Unsupported content type application/x-ndjson";
    let warnings = all.matches("WARNING").count();
    assert_eq!(
        (warnings, all.matches(unsupported).count()),
        (2, 2),
        "{all}"
    );
    let script = "import sys; sys.path.insert(0, 'made')\n\
        from tapline_client import Client\n\
        from tapline_client.api.events import publish_events, read_events\n\
        from tapline_client.api.telemetry import get_telemetry\n\
        from tapline_client.models import PublishKnown\n\
        client = Client(base_url=sys.argv[1])\n\
        event = PublishKnown.from_dict({'type': 'page_load', 'data': {'n': 1}})\n\
        published = publish_events.sync(client=client, body=event)\n\
        page = read_events.sync(client=client)\n\
        state = get_telemetry.sync(client=client)\n\
        print(published.seq, [it.event.type_ for it in page], state.seq)\n";
    let said = document.run("bin/python", &["-c", script, &document.server.url]);
    assert_eq!(said.out, "1 ['page_load'] 1\n");
}
