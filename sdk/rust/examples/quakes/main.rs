//! Ten small programs over a week of earthquakes, from hello to exactly once, a file each. They run against
//! `rustmq serve`, in a clone, from `sdk/rust`:
//!
//! ```sh
//! cargo run --example quakes            # lists them
//! cargo run --example quakes hello
//! cargo run --example quakes -- -b host:9092 exactly-once
//! ```
//!
//! Each makes topics of its own, and may be run again.

mod conditional;
mod exactly_once;
mod group;
mod hello;
mod produce;
mod program;
mod retry;
mod time;
mod transaction;
mod typed;
mod workers;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use program::{Failed, Program};

/// Name and purpose of each.
const EXAMPLES: [(&str, &str); 10] = [
    ("hello", "produce a record, and read it"),
    ("produce", "produce many, each with its result"),
    ("typed", "read values of a type, from the start to the end"),
    ("group", "share the work among members of a group"),
    ("workers", "handle many at once, those of a key in order"),
    ("retry", "try again, and put aside what cannot be handled"),
    ("time", "read from a moment on"),
    ("transaction", "write to several topics, all or nothing"),
    ("conditional", "append only if nobody else has"),
    ("exactly-once", "read, change and write, exactly once"),
];

/// Runs one; it returns what the example has to say.
async fn run(name: &str, p: &Program) -> Result<String, Failed> {
    match name {
        "hello" => hello::run(p).await,
        "produce" => produce::run(p).await,
        "typed" => typed::run(p).await,
        "group" => group::run(p).await,
        "workers" => workers::run(p).await,
        "retry" => retry::run(p).await,
        "time" => time::run(p).await,
        "transaction" => transaction::run(p).await,
        "conditional" => conditional::run(p).await,
        "exactly-once" => exactly_once::run(p).await,
        _ => Err(format!("there is no example {name}").into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let (mut broker, mut data, mut name) = ("127.0.0.1:9092".to_owned(), program::DATA.to_owned(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-b" => broker = args.next().unwrap_or_default(),
            "-data" => data = args.next().unwrap_or_default(),
            _ => name = Some(arg),
        }
    }
    let Some(name) = name else {
        eprintln!("usage: quakes [-b host:port] [-data FILE] NAME");
        for (name, what) in EXAMPLES {
            eprintln!("  {name:<13} {what}");
        }
        return ExitCode::from(2);
    };
    let of_run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let done = match program::read(&data) {
        Ok(quakes) => run(&name, &Program { broker, quakes, run: format!("{of_run:x}") }).await,
        Err(why) => Err(why),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("quakes: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
#[path = "../../tests/harness/mod.rs"]
mod harness;

#[cfg(test)]
mod tests {
    use super::{EXAMPLES, Program, program, run};
    use crate::harness::{self, Options, Server, within};

    #[test]
    fn examples_say_what_they_show() -> Result<(), harness::Failed> {
        let server = Server::start(Options::default())?;
        let quakes = program::read(program::DATA)?;
        let want = [
            "offset 0: hello",
            "1707 quakes were delivered, 0 failed",
            "the strongest of 1707: 6.4, 22km NNE of Hualian, Taiwan",
            "1707 quakes handled, 0 not committed",
            "each in order",
            "1706 handled, 1 put aside",
            "10 quakes since",
            "84 transactions committed, 1 aborted",
            "20 entries, each number once",
            "39 strong quakes, 39 of them there once",
        ];
        harness::run(async {
            for ((name, _), want) in EXAMPLES.iter().zip(want) {
                let p = Program { broker: server.addr().to_owned(), quakes: quakes.clone(), run: (*name).to_owned() };
                let said = within(name, run(name, &p)).await??;
                assert!(said.contains(want), "{name} says {said:?}: want {want:?}");
            }
            Ok(())
        })
    }
}
