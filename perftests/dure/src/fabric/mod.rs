//! `dure fabric`: how fast a wire is, beneath the collectives, in the flags, columns and definitions of perftest.

mod args;
mod control;
mod cxl;
#[cfg_attr(not(feature = "verbs"), path = "no_device.rs")]
mod device;
mod figures;
mod header;
mod link;
mod matrix;
#[expect(unsafe_code, reason = "touches the memory of transports by address")]
mod memory;
mod net;
mod pair;
mod report;
mod row;
mod table;
mod test;
#[cfg(feature = "verbs")]
mod verbs;
mod wait;
mod write;

use std::io::{self, Write};

pub(crate) use self::args::Args;
use self::control::{Control, Message, VERSION, unexpected};
use self::device::Choice;
use self::figures::{Figures, dump};
use self::net::Devices;
use self::pair::Pair;
use self::row::Row;
use self::table::Unit;
use self::test::{Kind, Test};
use crate::output::{self, Failure, Verdict, chain, complain};

/// Measures and prints, as one side of a path, or as a job.
pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    output::expect_folder(args.json_file().as_deref())?;
    if args.test == Test::Matrix {
        return matrix::run(args);
    }
    let settings = args.settings(None)?;
    let devices = devices(args);
    if settings.transport == Kind::Rdma {
        // Before anybody waits for this side.
        device::ports(&devices.rdma)?;
    }
    let mut control = match &args.host {
        None => {
            complain(&format!("waiting for a client on TCP port {}", args.port));
            Control::accept(args.port, args.meeting(), args.patience())?
        }
        Some(host) => Control::dial(host, args.port, args.meeting(), args.patience())?,
    };
    let measured = measure(args, settings, devices, &mut control);
    if let Err(failure) = &measured {
        // If the other side is gone, it needs no reason.
        let _ = control.send(&Message::Failed { why: chain(failure) });
    }
    measured
}

/// The ports and the pool that the flags ask for.
fn devices(args: &Args) -> Devices {
    let Args { devices, ib_port, gid_index, mtu, pool, pool_partition, pool_coherence, .. } = args;
    Devices {
        rdma: Choice { devices: devices.clone(), port: *ib_port, gid_index: *gid_index, mtu: *mtu },
        pool: cxl::Pool {
            devices: pool.clone(),
            partition: pool_partition.unwrap_or(0),
            coherence: pool_coherence.unwrap_or_default(),
        },
    }
}

fn measure(
    args: &Args,
    mut settings: args::Settings,
    mut devices: Devices,
    control: &mut Control,
) -> Result<Verdict, Failure> {
    let key = agree(args, &mut settings, control)?;
    devices.rdma.mtu = settings.mtu;
    (devices.pool.partition, devices.pool.coherence) = (settings.partition, settings.coherence);
    let client = args.host.is_some();
    let mut pair = Pair::open(&settings, devices, (client, key), args.patience(), control)?;
    let header = pair.header(&settings);
    let screen = Screen { silent: output::claims_output(args.json.as_ref()), args };
    screen.print(&header.text())?;
    screen.print(&table::columns(settings.test.is_bandwidth(), screen.unit()))?;
    let mut rows = Vec::new();
    let interrupts = if settings.forever && client { Some(pair::watch()?) } else { None };
    for (size, loaded) in pair::shapes(&settings) {
        let (row, times) = pair.row(&settings, (size, loaded), rows.len() as u64, control)?;
        screen.row(&row)?;
        if let Some(times) = times.filter(|_| args.histogram) {
            screen.print(&dump(&times))?;
        }
        rows.push(row);
        if settings.forever && !pair::goes_on(control, interrupts.as_ref())? {
            break;
        }
    }
    screen.print(&format!("{}\n", header::LINE))?;
    pair.close(control)?;
    if let Some(to) = args.json_file() {
        output::write_json(&to, &report::report(&header, &rows, screen.unit()))?;
    }
    let wrong: Vec<_> = rows.iter().flat_map(|row| judge(args, row)).collect();
    wrong.iter().for_each(|what| complain(what));
    Ok(Verdict::holds_if(wrong.is_empty()))
}

/// The settings of both sides are the client's; the server says what it is given otherwise. With the key of the transports.
fn agree(
    args: &Args,
    settings: &mut args::Settings,
    control: &mut Control,
) -> Result<[u8; 32], Failure> {
    control.send(&Message::Hello { version: VERSION, settings: settings.clone() })?;
    let Message::Hello { version, settings: theirs } = control.receive()? else {
        return Err(Failure::Failed("the other side is no dure fabric".to_owned()));
    };
    if version != VERSION {
        let text =
            format!("this side speaks version {VERSION} of the exchange, the other {version}");
        return Err(Failure::Failed(text));
    }
    if (settings.test, settings.transport) != (theirs.test, theirs.transport) {
        let words =
            |of: &args::Settings| format!("{} over {}", args::name(of.test), of.transport.name());
        return Err(Failure::Usage(format!(
            "this side measures {}, the other {}: give both the same test and --transport",
            words(settings),
            words(&theirs)
        )));
    }
    if args.host.is_none() {
        *settings = args.settings(Some(&theirs))?;
        let differences = settings.differences(&theirs);
        if !differences.is_empty() {
            return Err(Failure::Usage(differences.join("; ")));
        }
        let key = dure_transport::proof::random_bytes();
        let key = key.map_err(|error| net::failed(settings.transport, error))?;
        control.send(&Message::Agreed { key })?;
        return Ok(key);
    }
    match control.receive()? {
        Message::Agreed { key } => Ok(key),
        other => Err(unexpected(&other)),
    }
}

/// What a row falls short of.
fn judge(args: &Args, row: &Row) -> Vec<String> {
    let unit = Unit { gbits: args.gbits };
    let mut wrong = Vec::new();
    if row.wrong > 0 {
        wrong.push(format!("{} B messages: {} wrong bytes arrived", row.size, row.wrong));
    }
    let mut check = |what: &str, got: f64, limit: Option<f64>, least: bool| {
        let Some(limit) = limit else { return };
        if (least && got < limit) || (!least && got > limit) {
            let word = if least { "below" } else { "above" };
            wrong.push(format!(
                "{} B messages: {what} {got:.6} is {word} the limit {limit}",
                row.size
            ));
        }
    };
    match row.figures {
        Figures::Bandwidth(figures) => {
            let name = format!("average bandwidth in {}", unit.name());
            check(&name, unit.of(figures.average), args.limit_bw, true);
            check("message rate in Mpps", figures.rate / 1e6, args.limit_rate, true);
        }
        Figures::Latency(figures) => {
            check("typical latency in usec", figures.typical, args.limit_lat, false);
        }
    }
    wrong
}

/// The table on standard output.
struct Screen<'a> {
    silent: bool,
    args: &'a Args,
}

impl Screen<'_> {
    fn unit(&self) -> Unit {
        Unit { gbits: self.args.gbits }
    }

    /// Prints at once, so that a row is seen when it is measured.
    fn print(&self, text: &str) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    fn row(&self, row: &Row) -> Result<(), Failure> {
        self.print(&table::row(row, self.unit()))?;
        self.print(&table::counters(&row.counters, self.args.counters))
    }
}
