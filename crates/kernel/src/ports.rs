//! Ports of replicas that have a network of their own: what goes to others than those that were declared is counted, and dropped.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfError, EbpfLoader};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::network::apart;

/// Built by `cargo xtask kernel`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/ports.bpf.o");
/// Bits in a word of declared ports.
const PORTS_PER_WORD: u16 = 64;

/// What becomes of packets to ports that were not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// They are counted.
    Count,
    /// They are counted and dropped.
    Drop,
}

/// Packets and their bytes, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What went over a network since its ports were declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// To and from declared ports, and what has no ports.
    pub passed: Traffic,
    /// Everything else.
    pub undeclared: Traffic,
    /// The same, of the first sixteen ports that were not declared; 0 stands for what should have a port and has none.
    pub by_port: Vec<(u16, Traffic)>,
}

/// Why ports could not be declared, or what went over them could not be counted.
#[derive(Debug)]
pub enum PortsError {
    /// The program or its maps could not be loaded.
    Load(Box<EbpfError>),
    /// The program could not be loaded or attached.
    Program(Box<ProgramError>),
    /// A map could not be read or written.
    Map(MapError),
    /// The network could not be entered.
    Network(io::Error),
    /// The embedded object lacks something.
    Object {
        /// What.
        what: &'static str,
    },
}

impl fmt::Display for PortsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortsError::Load(error) => write!(f, "the port program cannot be loaded: {error}"),
            PortsError::Program(error) => {
                write!(f, "the port program is refused (Linux 6.6 and newer take it): {error}")
            }
            PortsError::Map(error) => write!(f, "a map of the port program: {error}"),
            PortsError::Network(error) => write!(f, "the replica's network cannot be entered: {error}"),
            PortsError::Object { what } => write!(f, "the embedded port program has no {what}"),
        }
    }
}

impl std::error::Error for PortsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PortsError::Load(error) => Some(error.as_ref()),
            PortsError::Program(error) => Some(error.as_ref()),
            PortsError::Map(error) => Some(error),
            PortsError::Network(error) => Some(error),
            PortsError::Object { .. } => None,
        }
    }
}

impl From<MapError> for PortsError {
    fn from(error: MapError) -> PortsError {
        PortsError::Map(error)
    }
}

/// The ports of one network, for as long as this lives.
pub struct Ports {
    totals: PerCpuArray<MapData, [u64; 2]>,
    named: HashMap<MapData, u32, [u64; 2]>,
    /// Keeps the program attached.
    _program: Ebpf,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl Ports {
    /// Declares `ports`, TCP and UDP alike, on the loopback device of the network `network` (an open `/proc/PID/ns/net`).
    ///
    /// # Errors
    /// [`PortsError`]: without the privileges, or on kernels before 6.6.
    pub fn declare(
        network: BorrowedFd<'_>,
        ports: &[u16],
        undeclared: Undeclared,
    ) -> Result<Ports, PortsError> {
        let drops = u32::from(undeclared == Undeclared::Drop);
        let mut program = EbpfLoader::new()
            .btf(None)
            .override_global("DROPS", &drops, true)
            .load(OBJECT)
            .map_err(|error| PortsError::Load(Box::new(error)))?;
        let mut declared: Array<MapData, u64> = take(&mut program, "declared")?;
        for port in ports {
            let word = u32::from(port / PORTS_PER_WORD);
            let bits = declared.get(&word, 0)? | 1 << (port % PORTS_PER_WORD);
            declared.set(word, bits, 0)?;
        }
        let (totals, named) = (take(&mut program, "totals")?, take(&mut program, "named")?);
        let mut refused = None;
        apart(|| {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            refused = attach(&mut program).err();
            Ok(())
        })
        .map_err(PortsError::Network)?;
        match refused {
            Some(error) => Err(PortsError::Program(Box::new(error))),
            None => Ok(Ports { totals, named, _program: program }),
        }
    }

    /// What went over the network so far.
    ///
    /// # Errors
    /// [`PortsError::Map`].
    pub fn counts(&self) -> Result<PortCounts, PortsError> {
        let total = |which: u32| -> Result<Traffic, MapError> {
            let mut sum = Traffic::default();
            for [packets, bytes] in self.totals.get(&which, 0)?.iter() {
                sum.packets += packets;
                sum.bytes += bytes;
            }
            Ok(sum)
        };
        let mut by_port = Vec::new();
        for entry in self.named.iter() {
            let (port, [packets, bytes]) = entry?;
            by_port.push((u16::try_from(port).unwrap_or(0), Traffic { packets, bytes }));
        }
        by_port.sort_unstable_by_key(|(port, _)| *port);
        Ok(PortCounts { passed: total(0)?, undeclared: total(1)?, by_port })
    }
}

fn take<M>(program: &mut Ebpf, name: &'static str) -> Result<M, PortsError>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = program.take_map(name).ok_or(PortsError::Object { what: name })?;
    Ok(M::try_from(map)?)
}

/// In the network that the calling thread is in.
fn attach(program: &mut Ebpf) -> Result<(), ProgramError> {
    let Some(found) = program.program_mut("ports") else {
        return Err(ProgramError::NotLoaded);
    };
    let ports: &mut SchedClassifier = found.try_into()?;
    ports.load()?;
    let link = TcAttachOptions::TcxOrder(LinkOrder::default());
    ports.attach_with_options("lo", TcAttachType::Ingress, link)?;
    Ok(())
}
