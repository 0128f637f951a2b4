//! Real programs under the default protections and the default root, as `bivouac run -- ...` starts them: as nobody,
//! with the default filter, capabilities and root, in a network of their own. `docs/programs.md` is this table; a
//! program that needs an option stands there with it, and is shown to fail without.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a program is to be run with.
enum Need {
    /// Nothing: it works by default.
    Nothing,
    /// Options of the command, and lines of the operator's configuration.
    Option(&'static [&'static str], &'static str),
    /// Nothing helps, for this reason.
    Never(&'static str),
}

/// One program.
struct Program {
    name: &'static str,
    /// What it does in the test, for the page.
    does: &'static str,
    script: &'static str,
    /// What it says when it has worked.
    says: &'static str,
    need: Need,
}

const fn works(name: &'static str, does: &'static str, script: &'static str, says: &'static str) -> Program {
    Program { name, does, script, says, need: Need::Nothing }
}

const PROGRAMS: &[Program] = &[
    works("sh", "arithmetic, a pipe, a here-document", "cat <<E | tr a-z A-Z\nsum $((6*7))\nE", "SUM 42"),
    works(
        "bash",
        "arrays, process substitution, a background job",
        "bash -c 'a=(1 2 3); (exit 3) & wait $! || b=$?; diff <(echo x) <(echo x) && echo ${#a[@]}$b'",
        "33",
    ),
    works(
        "python3",
        "a pool of processes over POSIX semaphores, sqlite, ssl, ctypes",
        "/usr/bin/python3 -c 'import ctypes, sqlite3, ssl, multiprocessing as m\nwith m.Pool(2) as p: print(p.map(abs, [-4, 2]))'",
        "[4, 2]",
    ),
    works(
        "perl",
        "a temporary file, a child, a signal",
        "perl -MFile::Temp -e '$SIG{USR1}=sub{$s=1}; $p=fork; if(!$p){kill USR1,getppid;exit 5} waitpid $p,0; ($f)=File::Temp::tempfile(); print $f \"x\"; print $?>>8, $s, \"\\n\"'",
        "51",
    ),
    works(
        "node",
        "a worker thread, hashing, a server on the loopback",
        "/usr/bin/node -e 'const {Worker}=require(\"worker_threads\"),h=require(\"http\"); new Worker(\"require(\\\"worker_threads\\\").parentPort.postMessage(6*7)\",{eval:true}).on(\"message\",m=>{const s=h.createServer((q,r)=>r.end(\"got \"+m)).listen(0,()=>h.get({port:s.address().port},r=>r.on(\"data\",d=>{console.log(\"\"+d);process.exit()})))})'",
        "got 42",
    ),
    works(
        "java",
        "compiles and runs a class with threads",
        "cd /local && printf 'public class A { public static void main(String[] a) throws Exception { Thread t = new Thread(() -> System.out.println(\"java \" + 6 * 7)); t.start(); t.join(); } }' > A.java && /usr/bin/javac A.java && /usr/bin/java A",
        "java 42",
    ),
    works(
        "go",
        "compiles and runs a program with goroutines",
        "cd /local && printf 'package main\nfunc main() { c := make(chan int); go func() { c <- 6 * 7 }(); println(\"go\", <-c) }\n' > a.go && export HOME=/tmp GOCACHE=/tmp/go GO111MODULE=off PATH=$PATH:/usr/local/go/bin && go run a.go 2>&1",
        "go 42",
    ),
    works(
        "gcc",
        "compiles, links and runs a program with threads",
        "cd /local && printf '#include <pthread.h>\n#include <stdio.h>\nvoid *f(void *p) { puts(\"gcc 42\"); return p; }\nint main(void) { pthread_t t; pthread_create(&t, 0, f, 0); return pthread_join(t, 0); }\n' > a.c && gcc -O2 -pthread a.c -o a && ./a",
        "gcc 42",
    ),
    works(
        "git",
        "makes a repository, commits, clones it",
        "cd /local && export HOME=/tmp && git init -q a && cd a && echo x > f && git add f && git -c user.name=n -c user.email=e commit -qm first && git clone -q --no-local /local/a ../b && git -C ../b log --format=%s",
        "first",
    ),
    works(
        "curl",
        "fetches from a server in the same task",
        "cd /tmp && echo fetched > f && /usr/bin/python3 -m http.server 8123 -b 127.0.0.1 >/dev/null 2>&1 & curl -sS --retry 50 --retry-delay 0 --retry-connrefused http://127.0.0.1:8123/f",
        "fetched",
    ),
    works(
        "tar",
        "packs and unpacks a tree with links and holes",
        "cd /tmp && mkdir -p a/b && truncate -s 1M a/hole && ln -s b a/l && ln a/hole a/hard && tar -czSf a.tgz a && mkdir c && tar -xzf a.tgz -C c && diff -r a c/a && echo same",
        "same",
    ),
    works(
        "ssh-keygen",
        "makes a key pair and shows it",
        "ssh-keygen -q -t ed25519 -N '' -f /tmp/k && ssh-keygen -lf /tmp/k.pub",
        "ED25519",
    ),
    works(
        "PostgreSQL",
        "initdb, the server, pgbench with four clients",
        "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH && cd /tmp && initdb -D d -A trust -N >/dev/null && pg_ctl -D d -w -s -o \"-k /tmp -h '' -F\" -l log start && export PGHOST=/tmp && createdb x && pgbench -q -i -s 1 x 2>/dev/null && pgbench -c 4 -t 50 x 2>/dev/null && pg_ctl -D d -s -m fast stop",
        "number of failed transactions: 0 (0.000%)",
    ),
    works(
        "redis",
        "the server with a snapshot on disk, its benchmark",
        "cd /tmp && redis-server --port 0 --unixsocket /tmp/s --daemonize yes >/dev/null && until redis-cli -s s ping >/dev/null 2>&1; do sleep 0.05; done; redis-cli -s s set a kept >/dev/null && redis-benchmark -s s -n 2000 -t set,get -q >/dev/null && redis-cli -s s bgsave >/dev/null && redis-cli -s s get a && redis-cli -s s shutdown",
        "kept",
    ),
    works(
        "nginx",
        "master and worker, a static file",
        "mkdir -p /tmp/n && cd /tmp/n && echo served > index.html && echo 'worker_processes 2; pid n.pid; error_log stderr; events {} http { access_log off; server { listen 8080; root /tmp/n; } client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t; }' > c && nginx -p /tmp/n -c c && curl -sS http://127.0.0.1:8080/ && nginx -p /tmp/n -c c -s quit",
        "served",
    ),
    works(
        "memcached",
        "a value set and got over TCP",
        "memcached -l 127.0.0.1 -p 11299 -m 16 & bash -c 'until exec 3<>/dev/tcp/127.0.0.1/11299; do sleep 0.05; done 2>/dev/null; printf \"set a 0 0 4\\r\\nkept\\r\\nget a\\r\\nquit\\r\\n\" >&3; cat <&3'",
        "kept",
    ),
    works(
        "sqlite3",
        "a database with a write-ahead log",
        "sqlite3 /tmp/x.db 'pragma journal_mode=wal; create table t(x); insert into t values (40),(2); select \"sum\", sum(x) from t;'",
        "sum|42",
    ),
    works(
        "ImageMagick",
        "makes, scales and reads an image",
        "cd /tmp && /usr/bin/convert -size 64x64 gradient: -resize 50% a.png && /usr/bin/identify a.png",
        "PNG 32x32",
    ),
    works(
        "stress-ng",
        "processors, memory, pipes, sockets, files, futexes, timers and queues, each verified",
        "cd /tmp && stress-ng --cpu 1 --vm 1 --vm-bytes 32M --fork 1 --pipe 1 --sock 1 --hdd 1 --hdd-bytes 4M --mmap 1 --mmap-bytes 8M --futex 1 --sem 1 --timer 1 --switch 1 --poll 1 --epoll 1 --eventfd 1 --msg 1 --shm 1 --dir 1 --flock 1 --get 1 --memcpy 1 --qsort 1 --zlib 1 --timeout 3 --verify --no-rand-seed 2>&1",
        "successful run completed",
    ),
    Program {
        name: "ping",
        does: "asks the loopback",
        script: "ping -c 1 -W 5 127.0.0.1",
        says: "1 received",
        need: Need::Option(&["--cap-add", "net_raw"], "allow_caps = [\"all\"]"),
    },
    Program {
        name: "bubblewrap",
        does: "makes a sandbox inside of the task",
        script: "bwrap --ro-bind / / true && echo nested",
        says: "nested",
        need: Need::Never(
            "user namespaces and mounts are closed to tasks: most holes of the kernel lie behind them",
        ),
    },
    Program {
        name: "mount",
        does: "mounts a file system",
        script: "mount -t tmpfs tmpfs /tmp && echo mounted",
        says: "mounted",
        need: Need::Never(
            "a task that may mount is as powerful as the host; `--tmpfs` and `--volume` mount for it",
        ),
    },
];

struct Bivouac {
    state: PathBuf,
}

impl Bivouac {
    /// Whether the program said what it says when it has worked, and all that it said.
    fn run(&self, program: &Program, options: &[&str], configuration: &str) -> (bool, String) {
        let file = self.state.with_extension("hcl");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", "120", env!("CARGO_BIN_EXE_bivouac"), "--state-dir"])
            .arg(&self.state);
        command.arg("--config").arg(&file).args(["run", "--net", "none", "--memory", "1g"]);
        command.args(options).args(["--", "sh", "-c", program.script]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        let good = said.contains(program.says) && output.status.success();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (good, format!("{}: {said}", output.status))
    }
}

impl Drop for Bivouac {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
        let _ = std::fs::remove_file(self.state.with_extension("hcl"));
    }
}

/// Covers: T76
#[test]
fn real_programs_run_under_the_default_protections() {
    if !rustix_is_root() {
        println!("SKIPPED: real_programs_run_under_the_default_protections: needs root");
        return;
    }
    let state = PathBuf::from(format!("/var/tmp/bivouac-test-programs-{}", std::process::id()));
    let bivouac = Bivouac { state };
    let mut faults = Vec::new();
    for program in PROGRAMS {
        let begun = std::time::Instant::now();
        let (good, said) = bivouac.run(program, &[], "");
        match (&program.need, good) {
            (Need::Nothing, true) | (Need::Never(_), false) => {}
            (Need::Nothing, false) => faults.push(format!("{} does not work: {said}", program.name)),
            (Need::Option(..) | Need::Never(_), true) => {
                faults.push(format!("{} works by default, and the page says otherwise", program.name));
            }
            (Need::Option(options, configuration), false) => {
                let (good, said) = bivouac.run(program, options, configuration);
                if !good {
                    faults.push(format!("{} does not work with {options:?}: {said}", program.name));
                }
            }
        }
        let taken = begun.elapsed();
        if taken > Duration::from_secs(1) {
            println!("{}: {taken:.1?}", program.name);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rustix_is_root() -> bool {
    let owner = std::fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data));
    owner.is_ok_and(|uid| uid == 0)
}

/// The page is the table: written anew with `BIVOUAC_WRITE_PAGES=1`.
#[test]
fn the_page_is_the_table() {
    let mut page = String::from(
        "# Real programs\n\nWhat runs under the default protections and the default root (`bivouac run -- ...`: as \
         nobody, with the default filter, capabilities and root). Written from the table in \
         `crates/bivouac/tests/programs.rs`, which runs every line: what needs an option is shown to fail \
         without.\n\n| program | in the test it | works |\n|---|---|---|\n",
    );
    for Program { name, does, need, .. } in PROGRAMS {
        let how = match need {
            Need::Nothing => "by default".to_owned(),
            Need::Option(options, configuration) => {
                format!("with `{}`, where the operator has `{configuration}`", options.join(" "))
            }
            Need::Never(why) => format!("no: {why}"),
        };
        writeln!(page, "| {name} | {does} | {how} |").unwrap();
    }
    page.push_str(
        "\nToolchains outside of `/usr` (below a home directory, in `/opt`) are not in the default root: mount them \
         with `--volume DIR:DIR:ro`, or add them to the operator's `chroot_env`. Programs that write to their home \
         directory want `--env HOME=/tmp`: nobody has none.\n",
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/programs.md");
    if std::env::var_os("BIVOUAC_WRITE_PAGES").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "docs/programs.md is stale");
}
