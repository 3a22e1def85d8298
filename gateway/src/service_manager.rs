//! Tells the service manager (systemd) how the gateway is: `sd_notify(3)`, datagrams of `NAME=value` lines to the socket that
//! `$NOTIFY_SOCKET` names. Without one, nothing is told.

use crate::{
    audit::AuditLog,
    cluster::{Cluster, Readiness},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    // How long it waits between two signs of life.
    watchdog: Option<Duration>,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Requests are accepted; also the end of a reload.
    Ready,
    /// The configuration is read again.
    Reloading,
    /// The gateway ends.
    Stopping,
    /// A line for people.
    Status(&'a str),
    /// A sign of life.
    Alive,
}

impl ServiceManager {
    /// The service manager that started this process.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        // The watchdog may be meant for another process (sd_watchdog_enabled(3)).
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| meant && *micros > 0);
        match Self::at(&name, watchdog.map(Duration::from_micros)) {
            Ok(manager) => manager,
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything ($NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// The service manager behind a socket. A name that begins with `@` is an abstract one.
    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Its queue holds few datagrams, and "ready" must not be lost; but one that does not read must not hold anything up.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket: Some((socket, address)),
            watchdog,
        })
    }

    /// Tells it something. What cannot be told is logged and changes nothing.
    pub fn tell(&self, notice: Notice<'_>) {
        let Some((socket, address)) = &self.socket else { return };
        let text = match notice {
            Notice::Ready => "READY=1".to_owned(),
            Notice::Reloading => {
                let now = clock_gettime(ClockId::Monotonic);
                let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
                format!("RELOADING=1\nMONOTONIC_USEC={micros}")
            }
            Notice::Stopping => "STOPPING=1".to_owned(),
            // One line: another would be another field.
            Notice::Status(text) => format!("STATUS={}", text.replace('\n', " ")),
            Notice::Alive => "WATCHDOG=1".to_owned(),
        };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::warn!(%error, ?notice, "the service manager was not told");
        }
    }

    /// Tells how many members serve, whenever that changes, and that the gateway stops.
    pub async fn follow(
        self: Arc<Self>,
        mut readiness: watch::Receiver<Readiness>,
        members: usize,
        stop: CancellationToken,
    ) {
        loop {
            let ready = readiness.borrow_and_update().ready;
            self.tell(Notice::Status(&format!("{ready} of {members} HSM members serve")));
            match stop.run_until_cancelled(readiness.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return,
                None => break,
            }
        }
        self.tell(Notice::Stopping);
        self.tell(Notice::Status("stopping: requests under way are finished"));
    }

    /// Gives signs of life until it is dropped: each after the runtime ran a new task, the session manager handled an event, and the
    /// audit log's lock was free. A gateway that only looks alive is started anew by the service manager.
    pub async fn keep_alive(self: Arc<Self>, cluster: Arc<Cluster>, audit: Arc<AuditLog>) {
        let Some(watchdog) = self.watchdog else { return };
        let mut ticks = interval(watchdog / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (cluster, audit) = (Arc::clone(&cluster), Arc::clone(&audit));
            let pulse = tokio::spawn(async move {
                cluster.pulse().await;
                tokio::task::spawn_blocking(move || audit.pulse()).await
            });
            match timeout(watchdog / 3, pulse).await {
                Ok(Ok(Ok(()))) => self.tell(Notice::Alive),
                _ => tracing::error!(
                    "the session manager or the audit log does not answer: the service manager gets no sign of life"
                ),
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a notice");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn notices_arrive_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let name = format!("portcullis-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = [
            (UnixDatagram::bind(&path).expect("a socket"), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&address).expect("a socket"),
                format!("@{name}").into(),
            ),
        ];
        for (socket, name) in sockets {
            let manager = ServiceManager::at(&name, None).expect("a service manager");
            manager.tell(Notice::Ready);
            assert_eq!(received(&socket), "READY=1");
            manager.tell(Notice::Status("two\nREADY=0"));
            assert_eq!(received(&socket), "STATUS=two READY=0");
            manager.tell(Notice::Reloading);
            let reloading = received(&socket);
            let micros = reloading
                .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
                .expect(&reloading);
            assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{reloading}");
            drop(socket);
            // Nobody listens any more.
            manager.tell(Notice::Stopping);
        }
    }
}
