//! What stands above the table, as perftest has it, for people and as JSON.

use serde_json::{Map, Value, json};

use super::args::{Settings, name};
use super::cxl::Pool;
use super::device::Port;
use super::test::Kind;

/// What is known of a run before its first row.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) settings: Settings,
    /// The RDMA ports of this side.
    pub(super) ports: Vec<Port>,
    /// The pool, as this side names it.
    pub(super) pool: Pool,
    /// Path MTU in bytes, where it is known.
    pub(super) mtu: Option<u32>,
    /// Bytes that are copied while posting, at most.
    pub(super) inline: u64,
    /// This end and the other one, in words.
    pub(super) ends: [String; 2],
}

pub(super) const LINE: &str =
    "---------------------------------------------------------------------------------------";

impl Header {
    fn title(&self) -> &'static str {
        self.settings.test.title(self.settings.both)
    }

    fn device(&self) -> String {
        let names: Vec<_> = self.ports.iter().map(|port| port.device.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    }

    fn transport(&self) -> &'static str {
        match self.settings.transport {
            Kind::Rdma => "IB",
            Kind::Tcp => "TCP",
            Kind::Pool => "shared memory",
            Kind::Cxl => "memory of a pool",
            Kind::Npu => "NPU",
        }
    }

    fn link(&self) -> &'static str {
        self.ports.first().map_or("none", |port| port.link)
    }

    /// Reads go through verbs, with a queue pair each; so do the write tests over RDMA.
    fn connection(&self) -> &'static str {
        if self.settings.transport == Kind::Rdma { "RC" } else { "none" }
    }

    /// The lines of a pool: where it is, and by what instructions its lines are stored, written back and dropped.
    fn pool(&self) -> Vec<String> {
        let Settings { transport, partition, coherence, .. } = &self.settings;
        if *transport != Kind::Cxl {
            return Vec::new();
        }
        let mut lines = vec![
            format!(" Pool            : {}", self.pool.names()),
            format!(" Partition       : {partition}\t\tCoherence      : {}", name(*coherence)),
        ];
        if let Some([store, back, drop]) = self.pool.instructions() {
            lines.push(format!(" Instructions    : {store}, {back}, {drop}"));
        }
        lines
    }

    /// The lines before the rows.
    pub(super) fn text(&self) -> String {
        let Settings { test, queues, depth, receives, moderation, .. } = &self.settings;
        let rdma = self.settings.transport == Kind::Rdma;
        let mut lines = vec![
            LINE.to_owned(),
            format!("                    {}", self.title()),
            format!(" Number of qps   : {queues}\t\tTransport type : {}", self.transport()),
            format!(
                " Connection type : {}\t\tUsing SRQ      : {}",
                self.connection(),
                if rdma { "ON" } else { "OFF" }
            ),
        ];
        if rdma {
            lines.push(format!(
                " Device          : {}\t\tLink type      : {}",
                self.device(),
                self.link()
            ));
        }
        lines.extend(self.pool());
        if test.is_bandwidth() {
            lines.push(format!(" TX depth        : {depth}\t\tCQ Moderation  : {moderation}"));
        }
        if test.is_send() {
            lines.push(format!(" RX depth        : {receives}"));
        }
        if let Some(mtu) = self.mtu {
            lines.push(format!(" Mtu             : {mtu}[B]"));
        }
        if let Some(port) = self.ports.first() {
            lines.push(format!(" GID index       : {}", port.gid.0));
        }
        lines.push(format!(" Max inline data : {}[B]", self.inline));
        lines.push(" Data ex. method : TCP".to_owned());
        lines.push(LINE.to_owned());
        lines.push(format!(" local address: {}", self.ends[0]));
        lines.push(format!(" remote address: {}", self.ends[1]));
        lines.push(LINE.to_owned());
        lines.join("\n") + "\n"
    }

    /// The same as JSON, under perftest's names where it has them.
    pub(super) fn json(&self) -> Map<String, Value> {
        let Settings { queues, depth, moderation, receives, .. } = &self.settings;
        let rdma = self.settings.transport == Kind::Rdma;
        let info = json!({
            "test": self.title().replace(' ', "_"),
            "Transport": self.settings.transport.name(),
            "Device": self.device(),
            "Number_of_qps": queues,
            "Transport_type": self.transport(),
            "Connection_type": self.connection(),
            "Using_SRQ": if rdma { "ON" } else { "OFF" },
            "TX_depth": depth,
            "RX_depth": receives,
            "CQ_Moderation": moderation,
            "Mtu": self.mtu,
            "Link_type": self.link(),
            "GID_index": self.ports.first().map(|port| port.gid.0),
            "GID": self.ports.first().map(|port| port.gid.1.as_str()),
            "Max_inline_data": self.inline,
            "Data_ex_method": "TCP",
            "local_address": self.ends[0],
            "remote_address": self.ends[1],
        });
        let mut info = info.as_object().cloned().unwrap_or_default();
        if self.settings.transport == Kind::Cxl {
            info.extend([
                ("Pool".to_owned(), json!(self.pool.devices)),
                ("Pool_partition".to_owned(), json!(self.settings.partition)),
                ("Pool_coherence".to_owned(), json!(self.settings.coherence)),
                ("Pool_instructions".to_owned(), json!(self.pool.instructions())),
            ]);
        }
        info
    }
}
