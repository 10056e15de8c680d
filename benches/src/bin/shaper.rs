//! `shaper`: the link of [`layerfs_benches::shaper`] as a program, for scripts.
//!
//! `shaper RATE RTT LISTEN:TARGET…` (Mbit/s, 0 = unshaped; milliseconds; ports on loopback).
//! Prints `ready`; then answers every line on its input with one line of JSON, an array of
//! `{"down": bytes, "up": bytes, "connections": n}` per route; ends when its input ends.

use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use layerfs_benches::shaper::{Link, Shaper};

const USAGE: &str =
    "usage: shaper RATE-MBIT RTT-MS LISTEN:TARGET…  (ports on loopback; rate 0 = unshaped)";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "shaper: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &[String]) -> Result<Shaper, String> {
    let [rate, rtt, routes @ ..] = arguments else {
        return Err(USAGE.into());
    };
    let number = |text: &String| {
        text.parse::<f64>()
            .ok()
            .filter(|n| (0.0..1e9).contains(n))
            .ok_or(USAGE)
    };
    let rtt = Duration::from_secs_f64(number(rtt)? / 1000.0);
    let mut shaper = Shaper::new(Link {
        rate: number(rate)?,
        rtt,
    });
    for route in routes {
        let (listen, target) = route.split_once(':').ok_or(USAGE)?;
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|e| format!("{text} in {route}: {e}; {USAGE}"))
        };
        let target = (Ipv4Addr::LOCALHOST, port(target)?).into();
        shaper
            .route(port(listen)?, target)
            .map_err(|e| format!("cannot listen on port {listen}: {e}"))?;
    }
    Ok(shaper)
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shaper = start(&arguments)?;
    let mut out = io::stdout();
    let mut say = |line: String| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|e| format!("cannot write the answer: {e}"))
    };
    say("ready".into())?;
    for line in io::stdin().lock().lines() {
        line.map_err(|e| format!("cannot read the question: {e}"))?;
        let one = |c: &layerfs_benches::shaper::Counts| {
            format!(
                r#"{{"down":{},"up":{},"connections":{}}}"#,
                c.down, c.up, c.connections
            )
        };
        let counts: Vec<String> = shaper.counts().iter().map(one).collect();
        say(format!("[{}]", counts.join(",")))?;
    }
    Ok(())
}
