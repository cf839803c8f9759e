//! A double of the driver of FuriosaAI's NPUs: its folders, and a kernel that answers its ioctl.
//!
//! The program under test makes its system calls itself. A seccomp filter hands the one ioctl to this process
//! (`seccomp_unotify(2)`), which checks what a driver would check and puts a descriptor into the caller. With `/dev/udmabuf` that
//! is a dma-buf of the very memory; without, a file with the bytes as they are then.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libc::{
    c_int, c_long, c_void, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sock_filter,
};
use tempfile::TempDir;

/// `_IOWR('N', 1, struct { u64 offset; u64 size; i32 fd; } packed)`, furiosa-ai/tokio-rdma, `examples/dmabuf_rdma.rs`.
const EXPORT_DMABUF: u32 = 0xc014_4e01;
/// Where the memory begins in the BAR (there).
const FIRST: u64 = 256 << 20;
const PAGE: u64 = 4096;
/// The number that the listener has in the program under test.
const LISTENER: RawFd = 200;

/// NPUs, and the folder that stands for `/`.
pub(crate) struct Driver {
    root: TempDir,
    bars: Vec<File>,
    window: u64,
    /// How many dma-bufs were exported.
    exported: AtomicUsize,
    /// So many bytes further than it was asked for begins what the driver exports.
    pub(crate) off: u64,
}

/// The result of a system call.
fn checked(result: c_long) -> io::Result<RawFd> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(result).unwrap()) }
}

/// A file in memory that cannot shrink, as `udmabuf` wants it.
fn memory(len: u64) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a 0.
    let fd = checked(unsafe { libc::memfd_create(c"npu".as_ptr(), flags) }.into())?;
    // SAFETY: it was just made, and is nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    // SAFETY: the descriptor is open.
    checked(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }.into())?;
    Ok(file)
}

impl Driver {
    /// So many NPUs, with so many bytes each.
    pub(crate) fn new(npus: usize, window: u64) -> io::Result<Self> {
        let root = TempDir::new()?;
        let bars = (0..npus).map(|_| memory(FIRST + window)).collect::<io::Result<Vec<_>>>()?;
        let driver = Self { root, bars, window, exported: AtomicUsize::new(0), off: 0 };
        for npu in 0..npus {
            let about = driver.path(&format!("sys/class/rngd_mgmt/rngd!npu{npu}mgmt"));
            fs::create_dir_all(&about)?;
            fs::write(about.join("busname"), format!("0000:{npu:02x}:00.0\n"))?;
            fs::write(about.join("device_uuid"), format!("00000000-0000-4000-8000-{npu:012}\n"))?;
            fs::write(about.join("device_type"), "RNGD\n")?;
            let pci = driver.path(&format!("sys/bus/pci/devices/0000:{npu:02x}:00.0"));
            fs::create_dir_all(&pci)?;
            fs::write(pci.join("numa_node"), "0\n")?;
            let devices = driver.path("dev/rngd");
            fs::create_dir_all(&devices)?;
            let file = format!("/proc/{}/fd/{}", std::process::id(), driver.bars[npu].as_raw_fd());
            symlink(file, devices.join(format!("npu{npu}bar4")))?;
        }
        Ok(driver)
    }

    /// A path below the folder that stands for `/`.
    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    /// How many dma-bufs were exported.
    pub(crate) fn exported(&self) -> usize {
        self.exported.load(Ordering::Relaxed)
    }

    /// Runs a program on this kernel, to its end.
    pub(crate) fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.env("RNGD_ROOT", self.root.path()).env("RNGD_WINDOW", self.window.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec it makes system calls only, on memory of its own stack.
        unsafe { command.pre_exec(install_filter) };
        let child = command.spawn()?;
        // SAFETY: the arguments are numbers.
        let pidfd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) })?;
        // SAFETY: it was just made.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let get = libc::SYS_pidfd_getfd;
        // SAFETY: the arguments are numbers.
        let listener = checked(unsafe { libc::syscall(get, pidfd.as_raw_fd(), LISTENER, 0) });
        let Ok(listener) = listener else {
            // It has ended already, which it could not have done while it waited for an answer.
            return child.wait_with_output();
        };
        // SAFETY: it was just made.
        let listener = unsafe { OwnedFd::from_raw_fd(listener) };
        thread::scope(|scope| {
            scope.spawn(|| self.serve(&listener));
            child.wait_with_output()
        })
    }

    /// Answers until nobody is left whom the filter holds.
    fn serve(&self, listener: &OwnedFd) {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one structure, which is alive.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            if poll.revents & libc::POLLIN == 0 {
                return;
            }
            // SAFETY: plain numbers, for which 0 is a value; the kernel wants it zeroed.
            let mut call: seccomp_notif = unsafe { std::mem::zeroed() };
            // A caller that has died meanwhile has nothing to be told.
            if ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut call).is_err() {
                continue;
            }
            let error = self.answer(listener, &call).err().unwrap_or(0);
            let mut answer = seccomp_notif_resp { id: call.id, val: 0, error: -error, flags: 0 };
            let _ = ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer);
        }
    }

    /// What the driver does, or the number of its error.
    fn answer(&self, listener: &OwnedFd, call: &seccomp_notif) -> Result<(), c_int> {
        let [bar, _, at, ..] = call.data.args;
        let of = |path: &str| format!("/proc/{}/{path}", call.pid);
        let theirs =
            File::options().read(true).write(true).open(of("mem")).map_err(|_| libc::EPERM)?;
        let mut region = [0; 20];
        theirs.read_exact_at(&mut region, at).map_err(|_| libc::EFAULT)?;
        let bar = fs::metadata(of(&format!("fd/{bar}"))).map_err(|_| libc::EBADF)?;
        let same = |file: &&File| {
            file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (bar.dev(), bar.ino()))
        };
        let bar = self.bars.iter().find(same).ok_or(libc::ENOTTY)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (offset, size) = (number(&region[..8]), number(&region[8..16]));
        let in_pages = offset.is_multiple_of(PAGE) && size.is_multiple_of(PAGE) && size > 0;
        let end = offset.checked_add(size).ok_or(libc::EINVAL)?;
        if !in_pages || offset < FIRST || end > FIRST + self.window {
            return Err(libc::EINVAL);
        }
        let shown = dma_buf(bar, offset + self.off, size)
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
        let mut add = seccomp_notif_addfd {
            id: call.id,
            flags: 0,
            srcfd: u32::try_from(shown.as_raw_fd()).unwrap(),
            newfd: 0,
            newfd_flags: u32::try_from(libc::O_CLOEXEC).unwrap(),
        };
        let added = ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut add);
        let fd = added.map_err(|_| libc::ESRCH)?;
        theirs.write_all_at(&fd.to_le_bytes(), at + 16).map_err(|_| libc::EFAULT)?;
        self.exported.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn ioctl<T>(on: &impl AsRawFd, request: libc::Ioctl, argument: &mut T) -> io::Result<RawFd> {
    // SAFETY: each request is given its own structure, which is alive.
    checked(
        unsafe {
            libc::ioctl(on.as_raw_fd(), request, std::ptr::from_mut(argument).cast::<c_void>())
        }
        .into(),
    )
}

/// Bytes of a BAR as other drivers get them.
fn dma_buf(bar: &File, offset: u64, size: u64) -> io::Result<OwnedFd> {
    /// `struct udmabuf_create` and its request, `include/uapi/linux/udmabuf.h`.
    #[repr(C)]
    struct Create {
        memfd: RawFd,
        flags: u32,
        offset: u64,
        size: u64,
    }
    const CREATE: libc::Ioctl = 0x4018_7542;
    if let Ok(device) = File::options().read(true).write(true).open("/dev/udmabuf") {
        let mut create = Create { memfd: bar.as_raw_fd(), flags: 1, offset, size };
        let fd = ioctl(&device, CREATE, &mut create)?;
        // SAFETY: it was just made.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    bar.read_exact_at(&mut bytes, offset)?;
    let copy = memory(size)?;
    copy.write_all_at(&bytes, 0)?;
    Ok(copy.into())
}

/// Hands the ioctl of this process, and of those that it starts, to whoever has the listener.
fn install_filter() -> io::Result<()> {
    let filter =
        |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filters = [
        // The number of the call: at 0 of struct seccomp_data.
        filter(load, 0, 0, 0),
        filter(is, 0, 3, u32::try_from(libc::SYS_ioctl).unwrap()),
        // The lower half of its second argument.
        filter(load, 0, 0, 24),
        filter(is, 0, 1, EXPORT_DMABUF),
        filter(answer, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        filter(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: filters.as_mut_ptr() };
    // SAFETY: the arguments are numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let (call, mode) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the program and its filters are alive.
    let listener = checked(unsafe { libc::syscall(call, mode, flags, &raw const program) })?;
    // SAFETY: numbers of this process, which will soon be another program's. That one keeps this number.
    checked(unsafe { libc::dup2(listener, LISTENER) }.into())?;
    Ok(())
}

/// Whether this system lets a process answer another's calls.
pub(crate) fn can_answer() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
        && fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
            .is_ok_and(|all| all.contains("user_notif"))
}
