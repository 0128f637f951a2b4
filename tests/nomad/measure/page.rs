//! The page of figures: each row with its bar, and whether it holds.

use crate::{EXEC, FLOOR, MOCK, OURS, OWN_LOGS, RAW};
use std::collections::BTreeMap;
use std::time::Duration;

/// Milliseconds, one per run.
pub(crate) type Samples = Vec<f64>;

/// Everything that was measured.
pub(crate) struct Page {
    form: &'static str,
    crowd: u64,
    many: u64,
    pub(crate) starts: BTreeMap<&'static str, Samples>,
    pub(crate) stops: BTreeMap<&'static str, Samples>,
    pub(crate) commands: BTreeMap<&'static str, Samples>,
    pub(crate) requests: BTreeMap<&'static str, Samples>,
    /// Private MiB per task, by kind of helper.
    pub(crate) helpers: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// Seconds until all run.
    pub(crate) crowds: BTreeMap<&'static str, f64>,
    /// MiB.
    pub(crate) plugin_rss: Option<f64>,
    /// Percent of one processor.
    pub(crate) idle: Option<f64>,
    /// Bytes and inodes.
    pub(crate) root: Option<(u64, u64)>,
    /// Milliseconds.
    pub(crate) whole_root: Option<f64>,
}

/// One line of the table: what was measured beside what is allowed.
struct Row {
    what: String,
    measured: String,
    bar: String,
    /// By how many times each bar of the line is reached; 1 is just allowed.
    times: Vec<f64>,
}

impl Row {
    fn new(what: impl Into<String>, measured: String) -> Row {
        Row { what: what.into(), measured, bar: String::new(), times: Vec::new() }
    }

    fn bar(self, bar: impl Into<String>) -> Row {
        Row { bar: bar.into(), ..self }
    }

    fn at_most(mut self, measured: f64, bar: f64) -> Row {
        self.times.push(measured / bar);
        self
    }

    /// Of this there must be none at all.
    fn nothing(mut self, measured: f64) -> Row {
        self.times.push(if measured == 0.0 { 0.0 } else { f64::INFINITY });
        self
    }

    fn verdict(&self) -> String {
        if self.times.iter().any(|times| times.is_nan()) {
            return "**not measured**".to_owned();
        }
        match self.times.iter().copied().fold(0.0, f64::max) {
            times if times <= 1.0 => "holds".to_owned(),
            times if times.is_finite() => format!("**missed**, {times:.1} times the bar"),
            _ => "**missed**".to_owned(),
        }
    }
}

/// The value below which this share of the samples lies.
fn share(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (f64::from(u32::try_from(last).unwrap_or(0)) * share).ceil();
    // A whole number between 0 and the last index.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked by its construction"
    )]
    let at = at as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn median(samples: &[f64]) -> f64 {
    share(samples, 0.5)
}

fn p99(samples: &[f64]) -> f64 {
    share(samples, 0.99)
}

impl Page {
    pub(crate) fn new(form: &'static str, crowd: u64, many: u64) -> Self {
        Self {
            form,
            crowd,
            many,
            starts: BTreeMap::new(),
            stops: BTreeMap::new(),
            commands: BTreeMap::new(),
            requests: BTreeMap::new(),
            helpers: BTreeMap::new(),
            crowds: BTreeMap::new(),
            plugin_rss: None,
            idle: None,
            root: None,
            whole_root: None,
        }
    }

    pub(crate) fn text(&self, took: Duration) -> String {
        let machine = machine();
        let (form, seconds) = (self.form, took.as_secs());
        let mut text = format!(
            "# Benchmarks under Nomad\n\n\
             Written by `cargo xtask bench nomad` (the {form} form, {seconds} s) on {machine}. One agent of Nomad 1.11.2 at INFO on \
             loopback, its server beside it; runs of all drivers interleaved, one at a time; times are the client's own task \
             events. The built-in `exec` has a chroot of one file, Bivouac its default root. `bivouac-logs` is Bivouac with \
             `log_collection = \"bivouac\"`; the others have Nomad's collector, which is none of the drivers'. `floor` is our own \
             plugin with own logs over an engine that isolates nothing, its tasks plain child processes: the least that a driver \
             can take here.\n\n\
             | what | measured | bar | |\n|---|---|---|---|\n"
        );
        for row in self.rows() {
            let verdict = row.verdict();
            text.push_str(&format!("| {} | {} | {} | {verdict} |\n", row.what, row.measured, row.bar));
        }
        text.push_str(&self.tables());
        text
    }

    fn of<'a>(&self, table: &'a BTreeMap<&'static str, Samples>, driver: &str) -> &'a [f64] {
        table.get(driver).map_or(&[], Vec::as_slice)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = self.times();
        rows.extend(self.costs());
        rows
    }

    /// What takes time.
    fn times(&self) -> Vec<Row> {
        let start = |driver| self.of(&self.starts, driver);
        let (ours, own) = (median(start(OURS)), median(start(OWN_LOGS)));
        let (raw, floor) = (median(start(RAW)), median(start(MOCK)));
        let over = |quantile: fn(&[f64]) -> f64| quantile(start(OURS)) - quantile(start(MOCK));
        let (over_median, over_p99) = (over(median), over(p99));
        let requests = self.of(&self.requests, OURS);
        let (request, slowest) = (median(requests), p99(requests));
        let command = |driver| median(self.of(&self.commands, driver));
        let stop = |driver| median(self.of(&self.stops, driver));
        vec![
            Row::new("set-up to started, median", format!("{ours:.0} ms"))
                .bar(format!("<= raw_exec's {raw:.0} ms"))
                .at_most(ours, raw),
            Row::new(
                "the same over mock_driver's, the client's own floor",
                format!("{over_median:.0} ms median, {over_p99:.0} ms p99"),
            )
            .bar(format!("<= 10 ms, 30 ms (the floor: {floor:.0} ms)"))
            .at_most(over_median, 10.0)
            .at_most(over_p99, 30.0),
            Row::new("the same with own logs, median", format!("{own:.0} ms"))
                .bar(format!("<= 1/4 of raw_exec's: {:.0} ms", raw / 4.0))
                .at_most(own, raw / 4.0),
            Row::new(
                "StartTask, request to reply, as the plugin sees it, 0.2 s after the run before",
                format!("{request:.1} ms median, {slowest:.1} ms p99 of {}", requests.len()),
            )
            .bar(format!("<= 6 ms, 20 ms (`floor`: {:.1} ms)", median(self.of(&self.requests, FLOOR))))
            .at_most(request, 6.0)
            .at_most(slowest, 20.0),
            Row::new("`nomad alloc exec` of a trivial command, median", format!("{:.0} ms", command(OURS)))
                .bar(format!(
                    "<= raw_exec's {:.0} ms (the command line alone: {:.0} ms)",
                    command(RAW),
                    command("nobody")
                ))
                .at_most(command(OURS), command(RAW)),
            Row::new("stop of a task that ends on its signal, median", format!("{:.1} ms", stop(OURS)))
                .bar(format!("<= raw_exec's {:.1} ms", stop(RAW)))
                .at_most(stop(OURS), stop(RAW)),
        ]
    }

    /// What takes memory, processor and disk, and a crowd.
    fn costs(&self) -> Vec<Row> {
        let helper = |driver, what| self.helpers.get(driver).and_then(|row| row.get(what)).copied();
        let shim = helper(OURS, "shim").unwrap_or(f64::NAN);
        let own_shim = helper(OWN_LOGS, "shim").unwrap_or(f64::NAN);
        let others = self.helpers.get(OWN_LOGS).into_iter().flatten().filter(|(what, _)| **what != "shim");
        let crowd = |driver| self.crowds.get(driver).copied().unwrap_or(f64::NAN);
        let (bytes, inodes) = self.root.map_or((f64::NAN, f64::NAN), |(bytes, inodes)| {
            (
                f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)),
                f64::from(u32::try_from(inodes).unwrap_or(u32::MAX)),
            )
        });
        let (rss, idle) = (self.plugin_rss.unwrap_or(f64::NAN), self.idle.unwrap_or(f64::NAN));
        vec![
            Row::new(
                format!("private memory of our helpers per task, of {}", self.many),
                format!("{shim:.2} MiB beside Nomad's collector, {own_shim:.2} MiB with own logs"),
            )
            .bar("<= 0.2 MiB; with own logs nothing else")
            .at_most(shim, 0.2)
            .at_most(own_shim, 0.2)
            .nothing(others.map(|(_, mib)| mib).sum()),
            Row::new(format!("plugin with {} tasks, resident", self.crowd), format!("{rss:.1} MiB"))
                .bar("<= 16 MiB")
                .at_most(rss, 16.0),
            Row::new(
                "processor of plugin and shims with them, idle, without statistics",
                format!("{idle:.2} % of one"),
            )
            .bar("0")
            .nothing(idle),
            Row::new(
                format!("{} tasks at once, own logs, until all run", self.crowd),
                format!("{:.1} s", crowd(OWN_LOGS)),
            )
            .bar(format!(
                "<= 1/5 of the built-in driver's {:.1} s (`floor`: {:.1} s; mock_driver, with Nomad's collector: {:.1} s)",
                crowd(EXEC),
                crowd(FLOOR),
                crowd(MOCK)
            ))
            .at_most(crowd(OWN_LOGS), crowd(EXEC) / 5.0),
            Row::new("bytes and inodes per task root", format!("{bytes} and {inodes}"))
                .bar("0 and <= 50")
                .nothing(bytes)
                .at_most(inodes, 50.0),
        ]
    }

    fn tables(&self) -> String {
        let mut text = String::from(
            "\n## Side by side\n\n| ms: median (p99) | mock_driver | raw_exec | exec | bivouac | bivouac-logs |\n|---|---|---|---|---|---|\n",
        );
        let columns = [MOCK, RAW, EXEC, OURS, OWN_LOGS];
        for (what, table) in [
            ("set-up to started", &self.starts),
            ("stop", &self.stops),
            ("`nomad alloc exec`", &self.commands),
        ] {
            let cell = |driver: &&str| match self.of(table, driver) {
                [] => "-".to_owned(),
                samples => format!("{:.0} ({:.0})", median(samples), p99(samples)),
            };
            text.push_str(&format!(
                "| {what} | {} |\n",
                columns.iter().map(cell).collect::<Vec<_>>().join(" | ")
            ));
        }
        let helpers = |driver: &&str| {
            let row = self.helpers.get(*driver).into_iter().flatten();
            let cell = row.map(|(what, mib)| format!("{what} {mib:.2}")).collect::<Vec<_>>().join(", ");
            if cell.is_empty() { "-".to_owned() } else { cell }
        };
        text.push_str(&format!(
            "| helpers per task, private MiB | {} |\n",
            columns.iter().map(helpers).collect::<Vec<_>>().join(" | ")
        ));
        let runs = self.of(&self.starts, OURS).len();
        if let Some(whole) = self.whole_root {
            text.push_str(&format!(
                "\nThe built-in driver with its default chroot, once: {whole:.0} ms from set-up to started. Each figure above is of {runs} \
                 runs; a p99 of few runs is the slowest.\n"
            ));
        }
        text
    }
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let cgroups =
        if std::path::Path::new("/sys/fs/cgroup/memory").exists() { "version 1" } else { "version 2" };
    format!(
        "{count} x {model}, Linux {}, control groups of {cgroups}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
