//! `nigh api`: any call of the API, with the address, token and trust of every other command.

use std::{
    io::{Read, Write},
    path::PathBuf,
};

use nigh_client::{Body, Call, Method};

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
};

/// The largest body that is sent.
const BODY_MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// GET, POST, PUT, DELETE, …
    method: String,
    /// The path, such as /v1/sites?limit=3
    path: String,
    /// A JSON body; `-` reads it from standard input
    #[arg(long, short, value_name = "JSON")]
    data: Option<String>,
    /// A file with the JSON body
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    data_file: Option<PathBuf>,
    /// Print status and header fields to stderr
    #[arg(long, short)]
    include: bool,
}

pub(crate) async fn run(args: Args, app: &App<'_>) -> Result<Exit, Failure> {
    let method: Method = args.method.to_uppercase().parse().map_err(|_| {
        Failure::new(Exit::Usage, format!("{:?} is not an HTTP method", args.method))
            .hint("nigh api GET /v1/status")
    })?;
    let mut call = Call::to_path(method, &args.path);
    if let Some(bytes) = body(&args)? {
        call = call.body(Body::Bytes { media_type: "application/json", bytes: bytes.into() });
    }
    let what = format!("{} {} was not answered", args.method, args.path);
    let answer = app.client.answer(&call).await.or_fail(|| what)?;
    if args.include {
        eprintln!("{}", answer.status);
        for (name, value) in &answer.headers {
            eprintln!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        eprintln!();
    }
    let mut stdout = std::io::stdout();
    // A reader that has gone away wants no more of it.
    let _ = stdout.write_all(&answer.body).and_then(|()| stdout.write_all(b"\n"));
    let status = answer.status.as_u16();
    Ok(if status < 400 { Exit::Ok } else { Exit::of_status(status) })
}

fn body(args: &Args) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Usage, "the body cannot be read").caused_by(&error)
    };
    let mut bytes = Vec::new();
    match (&args.data, &args.data_file) {
        (Some(data), _) if data == "-" => {
            std::io::stdin().take(BODY_MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        (Some(data), _) => bytes.extend_from_slice(data.as_bytes()),
        (None, Some(path)) => bytes = std::fs::read(path).map_err(unreadable)?,
        (None, None) => return Ok(None),
    }
    Ok(Some(bytes))
}
