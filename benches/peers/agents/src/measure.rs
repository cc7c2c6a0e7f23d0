//! CPU time of the process, all threads, and what it allocates.

use rustix::time::{ClockId, clock_gettime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

/// Nanoseconds of CPU and allocations so far.
#[derive(Clone, Copy)]
pub struct Spent {
    pub cpu: f64,
    pub allocations: u64,
}

impl Spent {
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = time.tv_sec as f64 * 1e9 + time.tv_nsec as f64;
        Self { cpu, allocations: ALLOCATIONS.load(Ordering::Relaxed) }
    }

    /// What was spent since then.
    pub fn since(self, then: Self) -> Self {
        Self { cpu: self.cpu - then.cpu, allocations: self.allocations - then.allocations }
    }
}

/// The bytes of the heap that are in use.
pub fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

/// The kibibytes of the process that are resident.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
