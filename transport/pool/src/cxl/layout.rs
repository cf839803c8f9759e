//! How a pool is laid out on its devices.
//!
//! ```text
//!   each device                                 a view of partition p
//!   0      header                               0      first 2 MiB of device 0
//!   4096   on device 0: two lines a member,     2 MiB  area of member 0
//!          partition by partition; then a row          area of member 1
//!          a member, a byte for each other
//!   2 MiB  granules of partition 0                     ...
//!          granules of partition 1 ...
//! ```
//!
//! Granule k of member m's area is on device (m + k) mod the number of devices: each member starts on another one, and whatever
//! is long is spread over all.

use dure_transport::{Error, Result};

use super::isa::LINE;
use crate::map::PAGE;
use crate::region::wide;

/// Bytes at the start of each device that hold no areas: what device memory is mapped in units of.
pub(super) const META: u64 = 2 << 20;
/// Where the table of members begins on device 0.
const TABLE: u64 = PAGE;
/// Bytes of a member's entry: a claim, which says whose it is, and a pulse, which says that it lives. Each has two cache lines,
/// because x86-64 fetches them in pairs.
const ENTRY: u64 = 256;
const PULSE: u64 = 128;
/// Most mappings of a view: the kernel allows 65,530 a process.
const MOST_PIECES: u64 = 16 << 10;
/// Most devices of a pool.
pub const MOST_DEVICES: usize = 64;

const MAGIC: u64 = u64::from_le_bytes(*b"durecxl\0");
const VERSION: u64 = 1;
/// Words of a header, the last of which is the sum of the others.
const WORDS: usize = 11;

/// What a pool is made of. All of it is in the header of each of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tells this pool from others: a random number.
    pub id: u64,
    /// Number of devices.
    pub devices: usize,
    /// Bytes of each device that are used, the least of what they have.
    pub bytes: u64,
    /// Bytes that follow each other on one device: a multiple of 2 MiB.
    pub granule: u64,
    /// Most processes that use a partition at a time.
    pub members: u32,
    /// Parts of the pool that know nothing of each other, one for each job that uses it at a time.
    pub partitions: u32,
}

/// A header that says nothing of a pool of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No pool was made here.
    #[error("holds no pool: make one with `dure pool create`")]
    Blank,
    /// It is of another version of this library.
    #[error("holds a pool of layout {0}, and this library knows layout {VERSION}")]
    Version(u64),
    /// Its numbers do not add up.
    #[error(
        "has a damaged header (sum {found:#x} where {wanted:#x} belongs): make the pool anew with `dure pool create`"
    )]
    Damaged {
        /// What the header holds.
        found: u64,
        /// What its words add up to.
        wanted: u64,
    },
    /// Its numbers add up to no pool.
    #[error("describes an impossible pool: {0}")]
    Impossible(String),
}

impl Shape {
    /// The header of one of the devices.
    pub(super) fn header(&self, device: usize) -> [u64; WORDS] {
        let mut words = [
            MAGIC,
            VERSION,
            self.id,
            device as u64,
            self.devices as u64,
            self.bytes,
            self.granule,
            self.members.into(),
            self.partitions.into(),
            META,
            0,
        ];
        words[WORDS - 1] = sum(&words);
        words
    }

    /// Reads what [`Shape::header`] wrote: the shape, and which device it is.
    ///
    /// # Errors
    /// A [`Flaw`]; whatever the words are, nothing else happens.
    pub(super) fn parse(words: &[u64; WORDS]) -> std::result::Result<(Self, usize), Flaw> {
        let [magic, version, id, device, devices, bytes, granule, members, partitions, meta, found] =
            *words;
        if magic != MAGIC {
            return Err(Flaw::Blank);
        }
        if version != VERSION {
            return Err(Flaw::Version(version));
        }
        let wanted = sum(words);
        if found != wanted {
            return Err(Flaw::Damaged { found, wanted });
        }
        let impossible = |what: &str| Flaw::Impossible(what.to_owned());
        let small = |n: u64| u32::try_from(n).map_err(|_| impossible("a count beyond 32 bits"));
        let shape = Self {
            id,
            devices: small(devices)? as usize,
            bytes,
            granule,
            members: small(members)?,
            partitions: small(partitions)?,
        };
        Layout::new(shape)?;
        if meta != META || device >= devices {
            return Err(impossible("a device that is not among the pool's"));
        }
        Ok((shape, small(device)? as usize))
    }
}

/// Words of a header, by which a reader knows how many to look at.
pub(super) const HEADER_WORDS: usize = WORDS;

/// FNV-1a over the words but the last.
fn sum(words: &[u64; WORDS]) -> u64 {
    let bytes = words[..WORDS - 1].iter().flat_map(|word| word.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Bytes of a member's row: whole lines.
fn row_len(members: u32) -> u64 {
    u64::from(members).next_multiple_of(wide(LINE))
}

/// A shape, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) shape: Shape,
    /// Granules of one partition on one device.
    rows: u64,
    /// Bytes of a member's area.
    area: u64,
}

/// A range of a view, and where it is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) device: usize,
    pub(super) offset: u64,
}

impl Layout {
    /// # Errors
    /// [`Flaw::Impossible`] when there is no such pool.
    pub(super) fn new(shape: Shape) -> std::result::Result<Self, Flaw> {
        let impossible = |what: String| Err(Flaw::Impossible(what));
        let Shape { devices, bytes, granule, members, partitions, .. } = shape;
        if !(1..=MOST_DEVICES).contains(&devices) {
            return impossible(format!("{devices} devices (allowed: 1 to {MOST_DEVICES})"));
        }
        if granule == 0 || !granule.is_multiple_of(META) {
            return impossible(format!(
                "granules of {granule} bytes (allowed: multiples of {META})"
            ));
        }
        let entries = u64::from(members) * u64::from(partitions);
        let table = entries * (ENTRY + row_len(members));
        if entries == 0 || table > META - TABLE {
            return impossible(format!(
                "{members} members in each of {partitions} partitions take {table} bytes of tables (allowed: 1 to {})",
                META - TABLE
            ));
        }
        let rows = bytes.saturating_sub(META) / granule / u64::from(partitions);
        let each = rows / u64::from(members);
        if each == 0 {
            let least = META + granule * entries;
            return impossible(format!(
                "{bytes} bytes a device, where {members} members in each of {partitions} partitions need {least}"
            ));
        }
        let pieces = each * devices as u64 * u64::from(members);
        if devices > 1 && pieces > MOST_PIECES {
            return impossible(format!(
                "{pieces} granules in a partition (allowed: {MOST_PIECES}): take longer ones"
            ));
        }
        Ok(Self { shape, rows, area: each * granule * devices as u64 })
    }

    /// Bytes of a view of one partition.
    pub(super) fn view_len(&self) -> u64 {
        META + self.area * u64::from(self.shape.members)
    }

    /// Bytes of a member's area.
    pub(super) fn area_len(&self) -> u64 {
        self.area
    }

    /// Where a member's area begins in a view.
    pub(super) fn area(&self, member: u32) -> u64 {
        META + self.area * u64::from(member)
    }

    /// Where a member's claim is in a view: a line.
    pub(super) fn claim(&self, partition: u32, member: u32) -> u64 {
        let entry = u64::from(partition) * u64::from(self.shape.members) + u64::from(member);
        TABLE + entry * ENTRY
    }

    /// Where a member's pulse is in a view: a line.
    pub(super) fn pulse(&self, partition: u32, member: u32) -> u64 {
        self.claim(partition, member) + PULSE
    }

    /// Where the row of a member is in a view: a byte for each member, in whole lines.
    pub(super) fn row(&self, partition: u32, member: u32) -> u64 {
        let Shape { members, partitions, .. } = self.shape;
        let entries = u64::from(members) * u64::from(partitions);
        let before = u64::from(partition) * u64::from(members) + u64::from(member);
        TABLE + entries * ENTRY + before * row_len(members)
    }

    /// What a view is put together from, in the order of its addresses.
    pub(super) fn pieces(&self, partition: u32) -> impl Iterator<Item = Piece> {
        let Shape { devices, granule, .. } = self.shape;
        let many = devices as u64;
        let start = META + u64::from(partition) * self.rows * granule;
        let (len, count) = match devices {
            1 => (self.area * u64::from(self.shape.members), 1),
            _ => (granule, self.area / granule * u64::from(self.shape.members)),
        };
        let a_member = self.area / granule;
        let granules = (0..count).map(move |index| {
            let (member, k) = (index / a_member, index % a_member);
            Piece {
                at: META + index * len,
                len,
                device: usize::try_from((member + k) % many).expect("there are few devices"),
                offset: start + index / many * granule,
            }
        });
        std::iter::once(Piece { at: 0, len: META, device: 0, offset: 0 }).chain(granules)
    }

    /// Refuses a partition or a member that the pool does not have.
    pub(super) fn check(&self, partition: u32, member: u32) -> Result<()> {
        let Shape { members, partitions, .. } = self.shape;
        let exhausted = |what| Err(Error::Exhausted { transport: super::NAME, what });
        if partition >= partitions {
            return exhausted(format!("partition {partition}: the pool has {partitions}, from 0"));
        }
        if member >= members {
            return exhausted(format!("member {member}: the pool has {members}, from 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn shape(devices: usize, bytes: u64, granule: u64, members: u32, partitions: u32) -> Shape {
        Shape { id: 7, devices, bytes, granule, members, partitions }
    }

    proptest! {
        #[test]
        fn areas_are_apart_inside_their_devices_and_start_on_different_ones(
            devices in 1_usize..8, granules in 1_u64..200, size in 1_u64..4, members in 1_u32..9, partitions in 1_u32..4,
        ) {
            let granule = size * META;
            let shape = shape(devices, META + granules * granule + 5, granule, members, partitions);
            let Ok(layout) = Layout::new(shape) else {
                prop_assert!(granules < u64::from(members) * u64::from(partitions));
                return Ok(());
            };
            let mut used = HashSet::new();
            for partition in 0..partitions {
                let mut at = 0;
                for piece in layout.pieces(partition) {
                    prop_assert_eq!(piece.at, at);
                    at += piece.len;
                    prop_assert!(piece.offset + piece.len <= shape.bytes);
                    for page in (0..piece.len / META).map(|page| piece.offset + page * META) {
                        prop_assert!(used.insert((piece.device, page)) || piece.at == 0, "{:?}", piece);
                    }
                }
                prop_assert_eq!(at, layout.view_len());
                for member in 0..members {
                    let first = layout.pieces(partition).filter(|piece| piece.at <= layout.area(member)).last().unwrap();
                    prop_assert_eq!(first.device, member as usize % devices);
                }
            }
        }

        #[test]
        fn a_header_of_anything_is_a_shape_or_a_flaw(
            words in prop::array::uniform11(any::<u64>()), sums: bool, ours: bool,
        ) {
            let mut words = words;
            if ours {
                words[..2].copy_from_slice(&[MAGIC, VERSION]);
                words[9] = META;
            }
            if sums {
                words[WORDS - 1] = sum(&words);
            }
            if let Ok((shape, device)) = Shape::parse(&words) {
                prop_assert_eq!(shape.header(device), words);
            }
        }
    }

    #[test]
    fn each_flaw_of_a_header_is_told() {
        let good = shape(2, 64 << 20, META, 4, 2);
        let header = good.header(1);
        assert_eq!(Shape::parse(&header), Ok((good, 1)));
        assert_eq!(Shape::parse(&[0; WORDS]), Err(Flaw::Blank));
        let mut other = header;
        other[1] = 9;
        assert_eq!(Shape::parse(&other), Err(Flaw::Version(9)));
        for word in 2..WORDS {
            let mut damaged = header;
            damaged[word] ^= 1 << 7;
            assert!(matches!(Shape::parse(&damaged), Err(Flaw::Damaged { .. })), "word {word}");
        }
        for (bad, says) in [
            (shape(0, 64 << 20, META, 4, 2), "0 devices"),
            (shape(65, 64 << 20, META, 4, 2), "65 devices"),
            (shape(2, 64 << 20, 4096, 4, 2), "granules of 4096 bytes"),
            (shape(2, 64 << 20, META, 0, 2), "0 members"),
            (shape(2, 64 << 20, META, 9000, 2), "9000 members in each of 2 partitions take"),
            (shape(2, 16 << 20, META, 4, 2), "need 18874368"),
            (shape(2, 1 << 40, META, 4, 1), "take longer ones"),
        ] {
            let told = Shape::parse(&bad.header(0)).unwrap_err().to_string();
            assert!(told.contains(says), "{told}");
        }
    }
}
