; The part of the runtime that is native: a thread pool and the guarded call of an entry function.
; Every model carries a copy whose names start with the model's own identifier instead of "model".
; The layouts of services and calls are those of convc.h. `@model_pause`, `@model_clock`,
; `@model_spin_ticks`, `@model_fp_enter`, `@model_fp_leave` and `@model_check` come from the
; instruction set's own file beside this one, or from support.py, as do the times that the pool goes by:
; `@model_awake_nanoseconds`, `@model_waking_nanoseconds` and `@model_eighths_nanoseconds`.

; size, thread_create, thread_join, wait, wake, system_call; the numbers of the system calls futex, gettid, getcpu and
; sched_setaffinity; the set of CPUs that the pool may use
%Services = type { i64, ptr, ptr, ptr, ptr, ptr, i64, i64, i64, i64, [16 x i64] }

; One thread's share of a job: 0 next position and 1 end, counted from the share's start; then what the thread needs to
; know: the pool, its own index, its handle, its number (tid); 6 the first task of the share in a row of tasks, 7 how many
; tasks of a row it has; 8 whether its thread works on the job. 128 bytes: neighbouring cache lines are fetched in pairs.
%Share = type { i64, i64, ptr, i64, i64, i64, i64, i64, i64, [56 x i8] }

; 0 threads (0 in a child process after fork: the memory is wiped), 1 stop,
; 2 nanoseconds of work that an entry has at the least to be shared while workers are awake, and to wake those that sleep;
;   the first is negative where every step is shared, however small
; 3 generation: counts jobs, what idle workers wait on
; 5 busy: somebody runs a job
; 7 state: bit 16 says that workers may join the job, the bits below count those inside; 8 waiting: the caller sleeps
; 10 sleepers: workers that sleep
; 12 the job: function, arguments, tasks in a row, binary logarithm of the pieces in a share; 16 services; 17 the CPU that workers keep off, plus one
%Pool = type { i32, i32, { i64, i64, [104 x i8] }, i32, [124 x i8], i32, [124 x i8], i32, i32, [120 x i8], i32, [124 x i8],
               ptr, ptr, i64, { i64, [96 x i8] }, %Services, i32, [44 x i8] }

; Bytes of memory for a pool of that many threads, the caller's included.
define hidden i64 @model_pool_size(i32 %threads) {
  %n = zext i32 %threads to i64
  %shares = mul i64 %n, 128
  %end = getelementptr %Pool, ptr null, i64 1
  %head = ptrtoint ptr %end to i64
  %size = add i64 %head, %shares
  ret i64 %size
}

define internal ptr @model_share(ptr %pool, i64 %index) {
  %shares = getelementptr %Pool, ptr %pool, i64 1
  %share = getelementptr %Share, ptr %shares, i64 %index
  ret ptr %share
}

; Starts the workers in zeroed memory, aligned to 128. Returns how many threads the pool has: fewer than asked
; for if the system grants no more.
define hidden i32 @model_pool_create(ptr %pool, ptr %services, i32 %threads) {
entry:
  %own = getelementptr %Pool, ptr %pool, i64 0, i32 16
  %copy = load %Services, ptr %services
  store %Services %copy, ptr %own
  %create.at = getelementptr %Services, ptr %own, i64 0, i32 1
  %create = load ptr, ptr %create.at
  %wanted = zext i32 %threads to i64
  br label %next

next:
  %i = phi i64 [ 1, %entry ], [ %i.next, %started ]
  %more = icmp ult i64 %i, %wanted
  br i1 %more, label %start, label %done

start:
  %share = call ptr @model_share(ptr %pool, i64 %i)
  %pool.at = getelementptr %Share, ptr %share, i64 0, i32 2
  store ptr %pool, ptr %pool.at
  %index.at = getelementptr %Share, ptr %share, i64 0, i32 3
  store i64 %i, ptr %index.at
  %handle.at = getelementptr %Share, ptr %share, i64 0, i32 4
  %failed = call i32 %create(ptr %handle.at, ptr null, ptr @model_worker, ptr %share)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %started, label %done

started:
  %i.next = add i64 %i, 1
  br label %next

done:
  %count = phi i64 [ %i, %next ], [ %i, %start ]
  %result = trunc i64 %count to i32
  %awake = call i64 @model_awake_nanoseconds()
  %awake.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 0
  store i64 %awake, ptr %awake.at
  %waking = call i64 @model_waking_nanoseconds()
  %entry.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 1
  store i64 %waking, ptr %entry.at
  store i32 %result, ptr %pool
  ret i32 %result
}

; From now on every step is shared, however small, and workers are woken for any entry: what tests of sharing want.
define hidden void @model_pool_share_all(ptr %pool) {
  %awake.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 0
  store i64 -1, ptr %awake.at
  %entry.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 1
  store i64 -1, ptr %entry.at
  ret void
}

; Ends and joins the workers. Does nothing in a child process after fork, which has none.
define hidden void @model_pool_destroy(ptr %pool) {
entry:
  %threads = load i32, ptr %pool
  %alive = icmp ne i32 %threads, 0
  br i1 %alive, label %stop, label %done

stop:
  %stop.at = getelementptr %Pool, ptr %pool, i64 0, i32 1
  store atomic i32 1, ptr %stop.at seq_cst, align 4
  %generation.at = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %old = atomicrmw add ptr %generation.at, i32 1 seq_cst
  %services = getelementptr %Pool, ptr %pool, i64 0, i32 16
  call void @model_wake(ptr %services, ptr %generation.at, i32 2147483647)
  %join.at = getelementptr %Services, ptr %services, i64 0, i32 2
  %join = load ptr, ptr %join.at
  %n = zext i32 %threads to i64
  br label %next

next:
  %i = phi i64 [ 1, %stop ], [ %i.next, %one ]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %one, label %joined

one:
  %share = call ptr @model_share(ptr %pool, i64 %i)
  %handle.at = getelementptr %Share, ptr %share, i64 0, i32 4
  %handle = load i64, ptr %handle.at
  %ignored = call i32 %join(i64 %handle, ptr null)
  %i.next = add i64 %i, 1
  br label %next

joined:
  store i32 0, ptr %pool
  br label %done

done:
  ret void
}

; What an entry shares its steps by, given what its host brings and for how many nanoseconds one thread would work on
; what can be shared: null for the caller's thread alone, where that is little, or where workers sleep and are awake too
; late to be of use.
define hidden ptr @model_share_begin(ptr %parallel_for, ptr %pool, i64 %nanoseconds) {
entry:
  %own = icmp eq ptr %parallel_for, @model_pool_for
  br i1 %own, label %ask, label %given

given:
  ret ptr %parallel_for

ask:
  %threads = load i32, ptr %pool
  %several = icmp ugt i32 %threads, 1
  br i1 %several, label %look, label %alone

look:
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %sleepers = load atomic i32, ptr %sleepers.at monotonic, align 4
  %awake = icmp eq i32 %sleepers, 0
  %least.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 1
  %least = load i64, ptr %least.at
  %long = icmp sge i64 %nanoseconds, %least
  %few.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 0
  %few = load i64, ptr %few.at
  %enough = icmp sge i64 %nanoseconds, %few
  %at.once = and i1 %awake, %enough
  %worth = or i1 %at.once, %long
  br i1 %worth, label %given, label %alone

alone:
  ret ptr null
}

; One step of an entry: %rows rows of %length tasks, which take one thread so many nanoseconds, and whether that is worth
; sharing.
define hidden void @model_share_step(ptr %parallel_for, ptr %pool, ptr %function, ptr %arguments, i64 %rows, i64 %length, i64 %nanoseconds, i1 %worth) {
entry:
  %none = icmp eq ptr %parallel_for, null
  br i1 %none, label %alone, label %whose

whose:
  %own = icmp eq ptr %parallel_for, @model_pool_for
  br i1 %own, label %pool.ask, label %host.ask

pool.ask:
  %few.at = getelementptr %Pool, ptr %pool, i64 0, i32 2, i32 0
  %few = load i64, ptr %few.at
  %always = icmp slt i64 %few, 0
  %share = or i1 %worth, %always
  br i1 %share, label %shared, label %alone

shared:
  call void @model_pool_rows(ptr %pool, ptr %function, ptr %arguments, i64 %rows, i64 %length, i64 %nanoseconds)
  ret void

host.ask:
  %tasks.host = mul i64 %rows, %length
  br i1 %worth, label %host, label %alone

host:
  call void %parallel_for(ptr %pool, ptr %function, ptr %arguments, i64 %tasks.host)
  ret void

alone:
  %tasks = mul i64 %rows, %length
  call void %function(ptr %arguments, i64 0, i64 %tasks)
  ret void
}

; Runs function(arguments, begin, end) over pieces that cover [0, tasks), on the pool's threads and the caller's.
; Inside a job, or while another thread's job runs, everything runs on the caller's thread.
define hidden void @model_pool_for(ptr %pool, ptr %function, ptr %arguments, i64 %tasks) {
  call void @model_pool_rows(ptr %pool, ptr %function, ptr %arguments, i64 1, i64 %tasks, i64 0)
  ret void
}

; The same for %rows rows of %length tasks each, one after the other: a thread's share is the same stretch of every row.
; Steps of a network that are cut along one dimension of their images then find in a core's caches what that core wrote.
; %nanoseconds is what one thread would take, 0 where nobody knows.
define hidden void @model_pool_rows(ptr %pool, ptr %function, ptr %arguments, i64 %rows, i64 %length, i64 %nanoseconds) {
entry:
  %tasks = mul i64 %rows, %length
  %threads = load i32, ptr %pool
  %parallel = icmp ugt i32 %threads, 1
  %several = icmp sgt i64 %tasks, 1
  %worth = and i1 %parallel, %several
  br i1 %worth, label %try, label %alone

try:
  %busy.at = getelementptr %Pool, ptr %pool, i64 0, i32 5
  %busy = atomicrmw xchg ptr %busy.at, i32 1 acquire
  %free = icmp eq i32 %busy, 0
  br i1 %free, label %share, label %alone

alone:
  call void %function(ptr %arguments, i64 0, i64 %tasks)
  ret void

share:
  %n = zext i32 %threads to i64
  ; Rows too short to give everybody a task are one long row.
  %short = icmp ult i64 %length, %n
  %cut = select i1 %short, i64 1, i64 %rows
  %row = select i1 %short, i64 %tasks, i64 %length
  br label %share.next

share.next:
  %i = phi i64 [ 0, %share ], [ %i.next, %share.next ]
  %begin = phi i64 [ 0, %share ], [ %end, %share.next ]
  %i.next = add i64 %i, 1
  %scaled = mul i64 %row, %i.next
  %end = udiv i64 %scaled, %n
  %mine = sub i64 %end, %begin
  %total = mul i64 %mine, %cut
  %one = call ptr @model_share(ptr %pool, i64 %i)
  %end.at = getelementptr %Share, ptr %one, i64 0, i32 1
  %first.at = getelementptr %Share, ptr %one, i64 0, i32 6
  %mine.at = getelementptr %Share, ptr %one, i64 0, i32 7
  store atomic i64 0, ptr %one monotonic, align 8
  store atomic i64 %total, ptr %end.at monotonic, align 8
  store atomic i64 %begin, ptr %first.at monotonic, align 8
  store atomic i64 %mine, ptr %mine.at monotonic, align 8
  %joined.at = getelementptr %Share, ptr %one, i64 0, i32 8
  %caller = icmp eq i64 %i, 0
  %joined = zext i1 %caller to i64
  store atomic i64 %joined, ptr %joined.at monotonic, align 8
  %last = icmp eq i64 %i.next, %n
  br i1 %last, label %publish, label %share.next

publish:
  %function.at = getelementptr %Pool, ptr %pool, i64 0, i32 12
  %arguments.at = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %row.at = getelementptr %Pool, ptr %pool, i64 0, i32 14
  store ptr %function, ptr %function.at
  store ptr %arguments, ptr %arguments.at
  store i64 %row, ptr %row.at
  %eighths = call i64 @model_eighths_nanoseconds()
  %long = icmp sge i64 %nanoseconds, %eighths
  %shift = select i1 %long, i64 3, i64 2
  %shift.at = getelementptr %Pool, ptr %pool, i64 0, i32 15, i32 0
  store i64 %shift, ptr %shift.at
  %state.at = getelementptr %Pool, ptr %pool, i64 0, i32 7
  store atomic i32 65536, ptr %state.at release, align 4
  %generation.at = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %generation = atomicrmw add ptr %generation.at, i32 1 seq_cst
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %services = getelementptr %Pool, ptr %pool, i64 0, i32 16
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %work

rouse:
  call void @model_place(ptr %pool, i64 %n, ptr %services)
  call void @model_wake(ptr %services, ptr %generation.at, i32 2147483647)
  br label %work

work:
  call void @model_work(ptr %pool, i64 0, i64 %n)
  ; Nobody joins from here on: a worker that wakes late never holds the caller up.
  %before = atomicrmw and ptr %state.at, i32 -65537 seq_cst
  %inside = and i32 %before, 65535
  %over = icmp eq i32 %inside, 0
  br i1 %over, label %done, label %spin

spin:
  %start = call i64 @model_clock()
  br label %spin.next

spin.next:
  %now.state = load atomic i32, ptr %state.at acquire, align 4
  %empty = icmp eq i32 %now.state, 0
  br i1 %empty, label %done, label %spin.on

spin.on:
  call void @model_pause()
  %now = call i64 @model_clock()
  %spent = sub i64 %now, %start
  %limit = call i64 @model_spin_ticks()
  %tired = icmp ugt i64 %spent, %limit
  br i1 %tired, label %sleep, label %spin.next

sleep:
  %waiting.at = getelementptr %Pool, ptr %pool, i64 0, i32 8
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  br label %sleep.next

sleep.next:
  %sleep.state = load atomic i32, ptr %state.at seq_cst, align 4
  %sleep.over = icmp eq i32 %sleep.state, 0
  br i1 %sleep.over, label %awake, label %sleep.on

sleep.on:
  call void @model_wait(ptr %services, ptr %state.at, i32 %sleep.state)
  br label %sleep.next

awake:
  store atomic i32 0, ptr %waiting.at monotonic, align 4
  br label %done

done:
  store atomic i32 0, ptr %busy.at release, align 4
  ret void
}

; One thread's part of the current job: its own share piece by piece, then what others have left of theirs.
; The job was cut into %n shares. The caller knows that by itself: its pool may be closed while it works.
define internal void @model_work(ptr %pool, i64 %me, i64 %n) {
entry:
  %function.at = getelementptr %Pool, ptr %pool, i64 0, i32 12
  %arguments.at = getelementptr %Pool, ptr %pool, i64 0, i32 13
  %row.at = getelementptr %Pool, ptr %pool, i64 0, i32 14
  %function = load ptr, ptr %function.at
  %arguments = load ptr, ptr %arguments.at
  %row = load i64, ptr %row.at
  %shift.at = getelementptr %Pool, ptr %pool, i64 0, i32 15, i32 0
  %shift = load i64, ptr %shift.at
  br label %owner

owner:
  %visited = phi i64 [ 0, %entry ], [ %visited.next, %owner.next ]
  %whose = add i64 %me, %visited
  %index = urem i64 %whose, %n
  %share = call ptr @model_share(ptr %pool, i64 %index)
  %end.at = getelementptr %Share, ptr %share, i64 0, i32 1
  %first.at = getelementptr %Share, ptr %share, i64 0, i32 6
  %length.at = getelementptr %Share, ptr %share, i64 0, i32 7
  %end = load atomic i64, ptr %end.at monotonic, align 8
  %first = load atomic i64, ptr %first.at monotonic, align 8
  %length = load atomic i64, ptr %length.at monotonic, align 8
  ; A quarter of a share at a time, an eighth of a large one: fast threads take over what slow ones have left. Of a thread
  ; that is at work only where it has two pieces left: what others compute has to come from their caches later.
  %joined.at = getelementptr %Share, ptr %share, i64 0, i32 8
  %own = icmp eq i64 %visited, 0
  %part = lshr i64 %end, %shift
  %piece = call i64 @llvm.umax.i64(i64 %part, i64 1)
  %two = shl i64 %piece, 1
  br label %take

take:
  ; A look before the exclusive access: finished shares are only read.
  %seen = load atomic i64, ptr %share monotonic, align 8
  %finished = icmp sge i64 %seen, %end
  br i1 %finished, label %owner.next, label %whose.check

whose.check:
  %joined = load atomic i64, ptr %joined.at monotonic, align 8
  %absent = icmp eq i64 %joined, 0
  %unclaimed = sub i64 %end, %seen
  %much = icmp uge i64 %unclaimed, %two
  %needs = or i1 %absent, %much
  %mine = or i1 %own, %needs
  br i1 %mine, label %claim, label %owner.next

claim:
  %begin = atomicrmw add ptr %share, i64 %piece monotonic
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %run, label %owner.next

run:
  %after = add i64 %begin, %piece
  %stop = call i64 @llvm.umin.i64(i64 %after, i64 %end)
  %whole = udiv i64 %begin, %length
  %inside = urem i64 %begin, %length
  br label %stretch

stretch:
  ; What the piece has of one row.
  %at = phi i64 [ %begin, %run ], [ %at.next, %stretch ]
  %line = phi i64 [ %whole, %run ], [ %line.next, %stretch ]
  %skip = phi i64 [ %inside, %run ], [ 0, %stretch ]
  %left = sub i64 %stop, %at
  %rest = sub i64 %length, %skip
  %count = call i64 @llvm.umin.i64(i64 %left, i64 %rest)
  %before = mul i64 %line, %row
  %offset = add i64 %first, %skip
  %from = add i64 %before, %offset
  %to = add i64 %from, %count
  call void %function(ptr %arguments, i64 %from, i64 %to)
  %at.next = add i64 %at, %count
  %line.next = add i64 %line, 1
  %again = icmp ult i64 %at.next, %stop
  br i1 %again, label %stretch, label %take

owner.next:
  %visited.next = add i64 %visited, 1
  %more = icmp ult i64 %visited.next, %n
  br i1 %more, label %owner, label %done

done:
  ret void
}

; A worker's life: wait for a job, spinning at first and then asleep; join it if it is still open; work; leave.
define internal ptr @model_worker(ptr %share) {
entry:
  %pool.at = getelementptr %Share, ptr %share, i64 0, i32 2
  %pool = load ptr, ptr %pool.at
  %index.at = getelementptr %Share, ptr %share, i64 0, i32 3
  %me = load i64, ptr %index.at
  %services = getelementptr %Pool, ptr %pool, i64 0, i32 16
  %stop.at = getelementptr %Pool, ptr %pool, i64 0, i32 1
  %generation.at = getelementptr %Pool, ptr %pool, i64 0, i32 3
  %state.at = getelementptr %Pool, ptr %pool, i64 0, i32 7
  %waiting.at = getelementptr %Pool, ptr %pool, i64 0, i32 8
  %sleepers.at = getelementptr %Pool, ptr %pool, i64 0, i32 10
  %ignored = call i32 @model_fp_enter()
  %number.at = getelementptr %Services, ptr %services, i64 0, i32 7
  %number = load i64, ptr %number.at
  %known = icmp ne i64 %number, 0
  br i1 %known, label %name, label %idle

name:
  %system.at = getelementptr %Services, ptr %services, i64 0, i32 5
  %system = load ptr, ptr %system.at
  %tid = call i64 (i64, ...) %system(i64 %number)
  %tid.at = getelementptr %Share, ptr %share, i64 0, i32 5
  store atomic i64 %tid, ptr %tid.at monotonic, align 8
  br label %idle

idle:
  %seen = phi i32 [ 0, %entry ], [ 0, %name ], [ %job, %join ], [ %job, %leave ], [ %job, %tell ]
  %start = call i64 @model_clock()
  br label %spin

spin:
  %spin.job = load atomic i32, ptr %generation.at acquire, align 4
  %spin.new = icmp ne i32 %spin.job, %seen
  br i1 %spin.new, label %called, label %spin.on

spin.on:
  call void @model_pause()
  %now = call i64 @model_clock()
  %spent = sub i64 %now, %start
  %limit = call i64 @model_spin_ticks()
  %tired = icmp ugt i64 %spent, %limit
  br i1 %tired, label %sleep, label %spin

sleep:
  %more = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  br label %sleep.next

sleep.next:
  %sleep.job = load atomic i32, ptr %generation.at seq_cst, align 4
  %sleep.new = icmp ne i32 %sleep.job, %seen
  br i1 %sleep.new, label %awake, label %sleep.on

sleep.on:
  call void @model_wait(ptr %services, ptr %generation.at, i32 %seen)
  br label %sleep.next

awake:
  %fewer = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  br label %called

called:
  %job = phi i32 [ %spin.job, %spin ], [ %sleep.job, %awake ]
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %go = icmp eq i32 %stop, 0
  br i1 %go, label %join.first, label %end

join.first:
  %state.first = load atomic i32, ptr %state.at acquire, align 4
  br label %join

join:
  %state = phi i32 [ %state.first, %join.first ], [ %state.seen, %join.try ]
  %open = icmp uge i32 %state, 65536
  br i1 %open, label %join.try, label %idle

join.try:
  %with.me = add i32 %state, 1
  %exchange = cmpxchg ptr %state.at, i32 %state, i32 %with.me acq_rel acquire
  %state.seen = extractvalue { i32, i1 } %exchange, 0
  %joined = extractvalue { i32, i1 } %exchange, 1
  br i1 %joined, label %work, label %join

work:
  %joined.at = getelementptr %Share, ptr %share, i64 0, i32 8
  store atomic i64 1, ptr %joined.at monotonic, align 8
  %count = load i32, ptr %pool
  %n = zext i32 %count to i64
  call void @model_work(ptr %pool, i64 %me, i64 %n)
  br label %leave

leave:
  %before = atomicrmw sub ptr %state.at, i32 1 seq_cst
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %last = icmp eq i32 %before, 1
  %awaited = icmp ne i32 %waiting, 0
  %call = and i1 %last, %awaited
  br i1 %call, label %tell, label %idle

tell:
  call void @model_wake(ptr %services, ptr %state.at, i32 1)
  br label %idle

end:
  ret ptr null
}

; Keeps the workers off the caller's CPU before they are woken: some systems pack threads that wake onto the CPU
; of the one that wakes them, where they would wait for it to finish. Costs system calls only when the caller has moved.
define internal void @model_place(ptr %pool, i64 %n, ptr %services) {
entry:
  %cpu.at = alloca i32
  %mask = alloca [16 x i64]
  %number.at = getelementptr %Services, ptr %services, i64 0, i32 9
  %number = load i64, ptr %number.at
  %can = icmp ne i64 %number, 0
  br i1 %can, label %where, label %done

where:
  %system.at = getelementptr %Services, ptr %services, i64 0, i32 5
  %system = load ptr, ptr %system.at
  %getcpu.at = getelementptr %Services, ptr %services, i64 0, i32 8
  %getcpu = load i64, ptr %getcpu.at
  store i32 0, ptr %cpu.at
  %asked = call i64 (i64, ...) %system(i64 %getcpu, ptr %cpu.at, ptr null, ptr null)
  %cpu = load i32, ptr %cpu.at
  %mark = add i32 %cpu, 1
  %kept.at = getelementptr %Pool, ptr %pool, i64 0, i32 17
  %kept = load i32, ptr %kept.at
  %moved = icmp ne i32 %mark, %kept
  %inside = icmp ult i32 %cpu, 1024
  %place = and i1 %moved, %inside
  br i1 %place, label %copy, label %done

copy:
  store i32 %mark, ptr %kept.at
  %all = getelementptr %Services, ptr %services, i64 0, i32 10
  %wide = zext i32 %cpu to i64
  %word = lshr i64 %wide, 6
  %bit = and i64 %wide, 63
  %single = shl i64 1, %bit
  %others = xor i64 %single, -1
  br label %copy.next

copy.next:
  %i = phi i64 [ 0, %copy ], [ %i.next, %copy.next ]
  %some = phi i64 [ 0, %copy ], [ %some.next, %copy.next ]
  %from = getelementptr i64, ptr %all, i64 %i
  %to = getelementptr i64, ptr %mask, i64 %i
  %set = load i64, ptr %from
  %here = icmp eq i64 %i, %word
  %without = and i64 %set, %others
  %value = select i1 %here, i64 %without, i64 %set
  store i64 %value, ptr %to
  %some.next = or i64 %some, %value
  %i.next = add i64 %i, 1
  %copied = icmp eq i64 %i.next, 16
  br i1 %copied, label %check, label %copy.next

check:
  %any = icmp ne i64 %some.next, 0
  br i1 %any, label %next, label %done

next:
  %k = phi i64 [ 1, %check ], [ %k.next, %skip ]
  %more = icmp ult i64 %k, %n
  br i1 %more, label %one, label %done

one:
  %share = call ptr @model_share(ptr %pool, i64 %k)
  %tid.at = getelementptr %Share, ptr %share, i64 0, i32 5
  %tid = load atomic i64, ptr %tid.at monotonic, align 8
  %started = icmp ne i64 %tid, 0
  br i1 %started, label %move, label %skip

move:
  %rc = call i64 (i64, ...) %system(i64 %number, i64 %tid, i64 128, ptr %mask)
  br label %skip

skip:
  %k.next = add i64 %k, 1
  br label %next

done:
  ret void
}

; Sleeps until woken while *address == expected; may return for no reason.
define internal void @model_wait(ptr %services, ptr %address, i32 %expected) {
entry:
  %wait.at = getelementptr %Services, ptr %services, i64 0, i32 3
  %wait = load ptr, ptr %wait.at
  %given = icmp ne ptr %wait, null
  br i1 %given, label %host, label %futex

host:
  %ignored = call i32 %wait(ptr %address, i32 %expected)
  ret void

futex:
  %syscall.at = getelementptr %Services, ptr %services, i64 0, i32 5
  %syscall = load ptr, ptr %syscall.at
  %number.at = getelementptr %Services, ptr %services, i64 0, i32 6
  %number = load i64, ptr %number.at
  ; 128 = FUTEX_WAIT | FUTEX_PRIVATE_FLAG
  %rc = call i64 (i64, ...) %syscall(i64 %number, ptr %address, i64 128, i32 %expected, ptr null, ptr null, i64 0)
  ret void
}

define internal void @model_wake(ptr %services, ptr %address, i32 %count) {
entry:
  %wake.at = getelementptr %Services, ptr %services, i64 0, i32 4
  %wake = load ptr, ptr %wake.at
  %given = icmp ne ptr %wake, null
  br i1 %given, label %host, label %futex

host:
  %ignored = call i32 %wake(ptr %address, i32 %count)
  ret void

futex:
  %syscall.at = getelementptr %Services, ptr %services, i64 0, i32 5
  %syscall = load ptr, ptr %syscall.at
  %number.at = getelementptr %Services, ptr %services, i64 0, i32 6
  %number = load i64, ptr %number.at
  ; 129 = FUTEX_WAKE | FUTEX_PRIVATE_FLAG
  %rc = call i64 (i64, ...) %syscall(i64 %number, ptr %address, i64 129, i32 %count, ptr null, ptr null, i64 0)
  ret void
}

; Runs an entry function under the floating-point mode that every worker has (nearest even, denormals kept),
; whatever the host's mode is: the same inputs give the same bits in every program.
define hidden i32 @model_invoke(ptr %entry, ptr %call) {
  %mode = call i32 @model_fp_enter()
  %result = call i32 %entry(ptr %call)
  call void @model_fp_leave(i32 %mode)
  ret i32 %result
}

declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)
