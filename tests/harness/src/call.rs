//! One call of a collective with known data, on memory of any device, and the check of what it gave.

use std::sync::Arc;

use dure::{Action, Communicator, Device, Dtype, Memory, ReduceOp, Request, Result};
use dure_device::{Queue, Work};
use dure_plan::{Blocks, Collective, Rank};

use crate::data::Data;

/// A call that is checked.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which collective.
    pub what: Collective,
    /// Elements of a block.
    pub count: u64,
    /// Their type.
    pub dtype: Dtype,
    /// How they are combined, where they are.
    pub op: ReduceOp,
    /// Whether input and output are the same memory.
    pub in_place: bool,
}

/// Bytes before and after each buffer, which no call may change.
const GUARD: usize = 64;
const UNTOUCHED: u8 = 0xa5;

impl Call {
    /// Makes the call on this rank and checks every byte of this rank's output, and that nothing beside it was written.
    ///
    /// # Errors
    /// The call's.
    ///
    /// # Panics
    /// When a byte is wrong.
    pub fn check(&self, on: &Communicator, device: &Arc<dyn Device>) -> Result<()> {
        self.check_crossing(on, device).map(drop)
    }

    /// The same; with how many bytes the device copied from and to memory of the host during the call, if it counts them.
    ///
    /// # Errors
    /// As [`Call::check`].
    ///
    /// # Panics
    /// As [`Call::check`].
    pub fn check_crossing(
        &self,
        on: &Communicator,
        device: &Arc<dyn Device>,
    ) -> Result<Option<u64>> {
        let (me, ranks) = (on.rank(), on.size());
        let Blocks { input, output } = self.what.blocks(ranks, Rank(me));
        let elem = self.dtype.size();
        let block = usize::try_from(self.count).expect("test data is small") * elem;
        let bytes = |blocks: u32| blocks as usize * block;
        let (input_at, output_at, len) = self.layout((input, output), me, block);
        let data = self.data(ranks);
        let mut image = vec![UNTOUCHED; len];
        for (i, place) in image[input_at..][..bytes(input)].chunks_exact_mut(elem).enumerate() {
            place.copy_from_slice(&data.input(me, i as u64)[..elem]);
        }
        let buffer = Buffer::new(device, &image);
        let part = |at: usize, len: usize| {
            if len == 0 { Memory::EMPTY } else { buffer.memory.part(at, len) }
        };
        let request = Request {
            action: Action::Collective(self.what, self.count),
            input: part(input_at, bytes(input)),
            output: part(output_at, bytes(output)),
            dtype: self.dtype,
            op: self.op.clone(),
        };
        let before = device.host_bytes();
        // SAFETY: the buffer lives until after the wait, and nobody else knows of it.
        let operation = unsafe { on.enqueue(vec![request], None) }?;
        on.wait(&operation)?;
        let crossed = device.host_bytes().zip(before).map(|(after, before)| after - before);
        let result = buffer.read();
        for (i, got) in result[output_at..][..bytes(output)].chunks_exact(elem).enumerate() {
            let want = self.expected(&data, me, i as u64);
            assert_eq!(got, &want[..elem], "rank {me} of {ranks}: element {i} of {self:?}");
        }
        // Outside the output everything is as before, but for what is left of an input in place.
        let (mut start, mut end) = (output_at, output_at + bytes(output));
        if self.in_place && output > 0 {
            (start, end) = (start.min(input_at), end.max(input_at + bytes(input)));
        }
        assert!(
            image[..start] == result[..start] && image[end..] == result[end..],
            "rank {me} of {ranks}: {self:?} wrote outside its output"
        );
        Ok(crossed)
    }

    /// Where input and output begin in one allocation, and how long that is.
    fn layout(&self, (input, output): (u32, u32), me: u32, block: usize) -> (usize, usize, usize) {
        let (input, output) = (input as usize, output as usize);
        if !self.in_place {
            let output_at = GUARD + input * block + GUARD;
            return (GUARD, output_at, output_at + output * block + GUARD);
        }
        // The shorter one is this rank's block of the longer one.
        let own = GUARD + me as usize * block;
        let len = GUARD + input.max(output) * block + GUARD;
        match input.cmp(&output) {
            std::cmp::Ordering::Less if input == 1 && output > 1 => (own, GUARD, len),
            std::cmp::Ordering::Greater if output == 1 && input > 1 => (GUARD, own, len),
            _ => (GUARD, GUARD, len),
        }
    }

    fn data(&self, ranks: u32) -> Data {
        let op = self.what.reduces().then(|| self.op.clone());
        Data { dtype: self.dtype, op, ranks }
    }

    /// Element `i` of the output of `me`.
    fn expected(&self, data: &Data, me: u32, i: u64) -> [u8; 8] {
        let block = || u32::try_from(i / self.count).expect("there are no more blocks than ranks");
        let mine = u64::from(me) * self.count;
        match self.what {
            Collective::AllReduce | Collective::Reduce { .. } => data.combined(i),
            Collective::ReduceScatter => data.combined(mine + i),
            Collective::AllGather | Collective::Gather { .. } => {
                data.input(block(), i % self.count)
            }
            Collective::AllToAll => data.input(block(), mine + i % self.count),
            Collective::Broadcast { root } => data.input(root.0, i),
            Collective::Scatter { root } => data.input(root.0, mine + i),
            Collective::Barrier => unreachable!("a barrier has no output"),
        }
    }
}

/// Memory of a device, which the CPU may be unable to touch.
struct Buffer {
    device: Arc<dyn Device>,
    memory: Memory,
}

impl Buffer {
    fn new(device: &Arc<dyn Device>, bytes: &[u8]) -> Self {
        let memory = device.alloc(bytes.len()).expect("the device has room for test data");
        let buffer = Self { device: Arc::clone(device), memory };
        let source = Memory::host(bytes.as_ptr().cast_mut(), bytes.len());
        buffer.copy(source, memory);
        buffer
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len];
        self.copy(self.memory, Memory::host(bytes.as_mut_ptr(), bytes.len()));
        bytes
    }

    fn copy(&self, src: Memory, dst: Memory) {
        let mut queue: Box<dyn Queue> = self.device.queue().expect("the device opens queues");
        // SAFETY: both are valid until the copy is done, which this function waits for, and no one else uses them.
        let ticket = unsafe { queue.submit(&Work::copy(src, dst)) }.expect("devices copy");
        while queue.completed().expect("the device is there") < ticket {
            std::thread::yield_now();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the call on it is over: it was waited for, or its communicator has failed and dropped its work.
        let freed = unsafe { self.device.free(self.memory) };
        freed.expect("it was allocated there");
    }
}
