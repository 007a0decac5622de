//! What every SDK has to do: the tables of sdk/scenarios, each case a test of its own, and beside them what only
//! this SDK has, cancellation at every await point. All run against the real `bin/rustmq`.

mod cancel;
mod groups;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod kills;
mod links;
mod secure;
mod table;
mod work;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use harness::{Failed, Options, Server};
use table::Case;

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + 'a>>;

/// How many tests run at once: most of what they do is wait.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    match child().or_else(|| suite().map_err(|why| eprintln!("scenarios: {why}")).ok()) {
        Some(code) => code,
        None => ExitCode::FAILURE,
    }
}

/// Runs what a process of this binary is begun for, where it is begun by a test.
fn child() -> Option<ExitCode> {
    let ended = if let Ok(arg) = std::env::var(groups::MEMBER) {
        harness::run(async { groups::run_member(&arg).await })
    } else if let Ok(arg) = std::env::var(kills::PROCESSOR) {
        harness::run(async { kills::run_processor(&arg).await })
    } else if let Ok(seed) = std::env::var(hostile::HOSTILE) {
        harness::run(async { hostile::run_hostile(&seed).await })
    } else {
        return None;
    };
    if let Err(why) = ended {
        eprintln!("{why}");
        return Some(ExitCode::FAILURE);
    }
    Some(ExitCode::SUCCESS)
}

/// Begins a case, where its kind is known.
fn begin<'a>(server: &'a Server, case: &'a Case) -> Option<Running<'a>> {
    Some(match case.kind.as_str() {
        "round-trip" => Box::pin(work::round_trip(server, case)),
        "order" => Box::pin(work::order(server, case)),
        "size" => Box::pin(work::size(server, case)),
        "slow" => Box::pin(work::slow(server, case)),
        "rebalance" => Box::pin(groups::rebalance(server, case)),
        "exactly-once" => Box::pin(kills::exactly_once(server, case)),
        "failover" => Box::pin(kills::failover(server, case)),
        "cancel" => Box::pin(cancel::cancelled(server, case)),
        "udp-blocked" => Box::pin(links::udp_blocked(server, case)),
        "address" => Box::pin(links::address(server, case)),
        "tickets" => Box::pin(links::tickets(server, case)),
        "rotation" => Box::pin(links::rotation(server, case)),
        _ => return None,
    })
}

/// A test of this SDK alone.
type Further = for<'a> fn(&'a Server) -> Running<'a>;

const FURTHER: &[(&str, Further)] = &[
    ("cancel at every point/send", |s| Box::pin(cancel::send_at_every_point(s))),
    ("cancel at every point/poll", |s| Box::pin(cancel::poll_at_every_point(s))),
    ("cancel at every point/transaction", |s| Box::pin(cancel::transaction_at_every_point(s))),
    ("cancel at every point/run", |s| Box::pin(cancel::run_at_every_point(s))),
    ("cancel at every point/groups and admin", |s| Box::pin(cancel::groups_and_admin_at_every_point(s))),
    ("futures are small", |s| Box::pin(cancel::futures_are_small(s))),
    ("a broker that lies", |s| Box::pin(hostile::liar(s))),
    ("secure/transports", |s| Box::pin(secure::transports(s))),
    ("secure/sasl", |s| Box::pin(secure::sasl(s))),
    ("secure/mutual TLS", |s| Box::pin(secure::mutual_tls(s))),
];

fn suite() -> Result<ExitCode, Failed> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(AT_ONCE);
    // A batch may be a quarter of a segment.
    let server = Arc::new(Server::start(Options::default().set("wal.segment_size=64MiB"))?);
    let mut trials = Vec::new();
    for scenario in table::read()? {
        for case in scenario.case {
            if begin(&server, &case).is_none() {
                return Err(format!("scenarios of kind {:?} are not known here", case.kind).into());
            }
            let server = Arc::clone(&server);
            trials.push(Trial::test(format!("{}/{}", case.kind, case.name), move || {
                let Some(run) = begin(&server, &case) else { unreachable!("looked up before") };
                Ok(harness::run(run)?)
            }));
        }
    }
    for &(name, test) in FURTHER {
        let server = Arc::clone(&server);
        trials.push(Trial::test(name, move || Ok(harness::run(test(&server))?)));
    }
    // The server ends with its last user, which is this function.
    Ok(libtest_mimic::run(&args, trials).exit_code())
}
