//! The rules that a definition is held to: each has a name that never changes, a meaning, and an example of what breaks it.
//!
//! A [`Diagnostic`](crate::Diagnostic) carries one of these, so that no complaint can be made that is not listed here. `vireo validate --rules` prints the list.

use std::fmt;

/// Lists rules: the variant, its name, its meaning, and an example of what breaks it.
macro_rules! rules {
    ($($variant:ident = $name:literal: $meaning:literal, $example:literal;)*) => {
        /// A rule, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $meaning] $variant,)*
        }

        impl Rule {
            /// Every rule, in the order in which documentation lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, which never changes.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is refused, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }

            /// What breaks it: a document, or a part of a domain; empty where no text alone can.
            pub const fn example(self) -> &'static str {
                match self {
                    $(Self::$variant => $example,)*
                }
            }
        }
    };
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

rules! {
    // Text that cannot be read.
    Unreadable = "unreadable": "A file cannot be read.", "";
    TooLarge = "too-large": "A document has more parts than any definition needs.", "";
    TooDeep = "too-deep": "Parts stand inside of parts deeper than any definition goes.", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";
    XmlSyntax = "xml-syntax": "The XML is not well formed.", "<network><name>a</network>";
    XmlNamespace = "xml-namespace": "A prefix is used that no xmlns declares.", "<network><name>a</name><my:own/></network>";
    XmlEntity = "xml-entity": "A reference such as &nbsp; has no meaning in XML.", "<network><name>a&nbsp;b</name></network>";
    Doctype = "doctype": "A document type is declared; definitions need none.", "<!DOCTYPE network><network><name>a</name></network>";
    YamlSyntax = "yaml-syntax": "The YAML is not well formed.", "domain: [a";
    YamlAlias = "yaml-alias": "An alias repeats what it stands in, or aliases grow into more than can be meant.", "domain: a\ncputune: &all {shares: *all}";
    YamlTag = "yaml-tag": "A value has a tag; a value's meaning is its field's.", "{domain: a, memory: !size 1 GiB}";
    YamlKey = "yaml-key": "A key is no plain word, or what is merged is no mapping.", "domain: a\n[memory]: 1 GiB";
    YamlShape = "yaml-shape": "A list, a mapping or a value stands where another is expected.", "{domain: a, cputune: 2048}";
    DuplicateKey = "duplicate-key": "A key stands twice in one mapping.", "domain: a\nmemory: 1 GiB\nmemory: 2 GiB";
    // Shape: elements, attributes, and single values.
    UnknownDocument = "unknown-document": "A document is of no known kind.", "<netwrok><name>a</name></netwrok>";
    UnknownElement = "unknown-element": "An element stands where its parent has none of that name.", "<memroy>512</memroy>";
    UnknownAttribute = "unknown-attribute": "An element has no attribute of that name.", "<network><name>a</name><bridge nmae='virbr0'/></network>";
    UnknownKey = "unknown-key": "A mapping takes no key of that name.", "{domain: a, memroy: 1 GiB}";
    DuplicateElement = "duplicate-element": "An element stands twice where it may stand once.", "<network><name>a</name><mtu size='1500'/><mtu size='9000'/></network>";
    UnexpectedText = "unexpected-text": "Text stands in an element that takes none.", "<network><name>a</name>hello</network>";
    Missing = "missing": "An element or attribute is not stated that its parent cannot do without.", "<network><bridge name='virbr0'/></network>";
    MissingName = "missing-name": "A definition has no name.", "<pool type='dir'><target><path>/images</path></target></pool>";
    EmptyValue = "empty-value": "A value is empty.", "<network><name></name></network>";
    BadValue = "bad-value": "A value is none that its field takes: a number, a size, a MAC, an IP address, a set of processors, one of certain words.", "<vcpu cpuset='3-1'>2</vcpu>";
    StatedTwice = "stated-twice": "One thing is said in two places.", "{domain: a, memory: 1 GiB, disks: {file: /a, type: block}}";
    MoreProblems = "more-problems": "A definition has more problems than are told.", "";
    // Between definitions.
    UnknownReference = "unknown-reference": "A definition refers to an object that none of the definitions is.", "{domain: a, memory: 1 GiB, interfaces: {network: none-such}}";
    DuplicateName = "duplicate-name": "Two definitions of one kind have one name.", "network: a\n---\nnetwork: a";
    DuplicateUuid = "duplicate-uuid": "Two definitions of one kind have one uuid.", "network: a\nuuid: 86891d0f-b6bb-49f8-a013-bae443c08d82\n---\nnetwork: b\nuuid: 86891d0f-b6bb-49f8-a013-bae443c08d82";
    DuplicateBridge = "duplicate-bridge": "Two networks make one bridge.", "network: a\nbridge: virbr7\n---\nnetwork: b\nbridge: virbr7";
    DuplicateUsage = "duplicate-usage": "Two secrets are for one use.", "secret: 86891d0f-b6bb-49f8-a013-bae443c08d82\nusage: {type: ceph, name: a}\n---\nsecret: 7405cb72-e384-54a1-a31a-e4638dc373a7\nusage: {type: ceph, name: a}";
    DuplicateMac = "duplicate-mac": "Two interfaces have one MAC address.", "domain: a\nmemory: 1 GiB\ninterfaces: {network: n, mac: 52:54:00:00:00:01}\n---\ndomain: b\nmemory: 1 GiB\ninterfaces: {network: n, mac: 52:54:00:00:00:01}\n---\nnetwork: n";
    OverlappingNetworks = "overlapping-networks": "Two networks have addresses in common.", "network: a\nip: {address: 10.7.0.1, prefix: 16}\n---\nnetwork: b\nip: {address: 10.7.9.1, prefix: 24}";
    NotKept = "not-kept": "A document tells of what libvirt noted of a guest, and is nothing that a host can be kept equal to.", "<filterbinding><owner><name>a</name><uuid>86891d0f-b6bb-49f8-a013-bae443c08d82</uuid></owner><portdev name='vnet0'/><mac address='52:54:00:12:34:56'/><filterref filter='clean-traffic'/></filterbinding>";
    RecordSource = "record-source": "A snapshot, a checkpoint or a port lacks what its type needs.", "<domainsnapshot><memory snapshot='external'/></domainsnapshot>";
    RecordConflict = "record-conflict": "A snapshot, a checkpoint or a port says what its type does not take.", "<domainsnapshot><memory snapshot='no' file='/a'/></domainsnapshot>";
    // Domains: memory and processors.
    NoMemory = "no-memory": "A guest has no memory.", "<domain><name>a</name></domain>";
    MaxMemory = "max-memory": "The memory that a guest may grow to is less than it begins with.", "<domain><name>a</name><maxMemory slots='1'>1024</maxMemory><memory>2048</memory><cpu><numa><cell id='0' cpus='0' memory='2048'/></numa></cpu></domain>";
    MaxMemoryWithoutNuma = "max-memory-without-numa": "Memory can be added, but there is no NUMA cell to add it to.", "<maxMemory slots='16' unit='GiB'>4</maxMemory>";
    HugepageCell = "hugepage-cell": "Huge pages are stated for a NUMA cell that the guest does not have.", "<memoryBacking><hugepages><page size='2048' nodeset='3'/></hugepages></memoryBacking>";
    VcpuCount = "vcpu-count": "A guest has no processor.", "<vcpu>0</vcpu>";
    VcpuCurrent = "vcpu-current": "More processors are there now than there may ever be.", "<vcpu current='8'>4</vcpu>";
    VcpuId = "vcpu-id": "A processor is stated that the guest does not have.", "<vcpu>1</vcpu><vcpus><vcpu id='1' enabled='yes'/></vcpus>";
    FarProcessors = "far-processors": "There are more processors than interrupts reach.", "<vcpu>300</vcpu><os><type machine='q35'>hvm</type></os>";
    TopologyProduct = "topology-product": "Sockets times dies times clusters times cores times threads is not the number of processors.", "<vcpu>4</vcpu><cpu><topology sockets='1' cores='3' threads='1'/></cpu>";
    CpuCache = "cpu-cache": "A cache's mode does not go with its level, or with the processor's mode.", "<cpu><cache mode='emulate' level='2'/></cpu>";
    CpuAddressWidth = "cpu-address-width": "The width of addresses is the host's, and stated too.", "<cpu mode='host-passthrough'><maxphysaddr mode='passthrough' bits='42'/></cpu>";
    DuplicateCpuFeature = "duplicate-cpu-feature": "A processor's feature is stated twice.", "<cpu mode='custom'><model>qemu64</model><feature policy='require' name='aes'/><feature policy='disable' name='aes'/></cpu>";
    DuplicateNumaCell = "duplicate-numa-cell": "Two NUMA cells have one number.", "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0' memory='512'/><cell id='0' cpus='1' memory='512'/></numa></cpu>";
    NumaCellNumber = "numa-cell-number": "NUMA cells are not numbered from 0 without gaps.", "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0' memory='512'/><cell id='2' cpus='1' memory='512'/></numa></cpu>";
    NumaCellMemory = "numa-cell-memory": "A NUMA cell has no memory.", "<cpu><numa><cell id='0' cpus='0'/></numa></cpu>";
    NumaCellCpus = "numa-cell-cpus": "A processor is in two NUMA cells, or in one and not in the guest.", "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0-1' memory='512'/><cell id='1' cpus='1' memory='512'/></numa></cpu>";
    NumatuneNodeset = "numatune-nodeset": "Memory is to lie on certain nodes of the host, and it is not said on which.", "<numatune><memory placement='static'/></numatune>";
    NumatunePlacement = "numatune-placement": "Places of single cells are stated beside placement='auto'.", "<cpu><numa><cell id='0' cpus='0' memory='512'/></numa></cpu><numatune><memory placement='auto'/><memnode cellid='0' mode='strict' nodeset='0'/></numatune>";
    NumatuneCell = "numatune-cell": "A place is stated for a NUMA cell that the guest does not have.", "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>";
    DuplicateNumatuneCell = "duplicate-numatune-cell": "A NUMA cell's place is stated twice.", "<cpu><numa><cell id='0' cpus='0' memory='512'/></numa></cpu><numatune><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='0' mode='strict' nodeset='1'/></numatune>";
    UnknownIothread = "unknown-iothread": "A thread for input and output is named that the guest does not have.", "<iothreads>1</iothreads><cputune><iothreadpin iothread='2' cpuset='0'/></cputune>";
    ScheduledTwice = "scheduled-twice": "A processor or thread is scheduled twice.", "<iothreads>1</iothreads><cputune><iothreadsched iothreads='1' scheduler='batch'/><iothreadsched iothreads='1' scheduler='idle'/></cputune>";
    PinnedTwice = "pinned-twice": "A processor or thread is placed twice.", "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='1'/></cputune>";
    CpuPeriod = "cpu-period": "A period is not between 1000 and 1000000 microseconds.", "<cputune><period>10</period></cputune>";
    CpuShares = "cpu-shares": "A weight is none that control groups take.", "<cputune><shares>1</shares></cputune>";
    CpuQuota = "cpu-quota": "A quota is below 1000 microseconds.", "<cputune><quota>10</quota></cputune>";
    CachetuneOverlap = "cachetune-overlap": "A processor is in two groups that share caches.", "<vcpu>2</vcpu><cputune><cachetune vcpus='0-1'/><cachetune vcpus='1'/></cputune>";
    DuplicateCacheShare = "duplicate-cache-share": "A group's share of one cache is stated twice.", "<cputune><cachetune vcpus='0'><cache id='0' level='3' type='both' size='3' unit='MiB'/><cache id='0' level='3' type='code' size='3' unit='MiB'/></cachetune></cputune>";
    CacheMonitor = "cache-monitor": "A processor is measured in a group that it is not in, or groups that are measured overlap.", "<cputune><cachetune vcpus='0'><monitor level='3' vcpus='1'/></cachetune></cputune>";
    MemorytuneOverlap = "memorytune-overlap": "A processor is in two groups that share memory's speed, or in groups of caches and of memory that are not equal.", "<vcpu>2</vcpu><cputune><memorytune vcpus='0-1'/><memorytune vcpus='1'/></cputune>";
    DuplicateMemoryShare = "duplicate-memory-share": "A group's share of one node's memory is stated twice.", "<cputune><memorytune vcpus='0'><node id='0' bandwidth='20'/><node id='0' bandwidth='30'/></memorytune></cputune>";
    // Domains: firmware, features, life.
    LoaderPath = "loader-path": "A firmware has no path, and none is to be chosen.", "<os><type>hvm</type><loader readonly='yes'/></os>";
    LoaderStateless = "loader-stateless": "Firmware keeps variables and is stateless at once.", "<os><type>hvm</type><loader readonly='yes' type='pflash' stateless='yes'>/fw</loader><nvram>/vars</nvram></os>";
    FirmwareFormat = "firmware-format": "A firmware and its variables are in images of two formats.", "<os firmware='efi'><type>hvm</type><loader format='qcow2'/><nvram format='raw'/></os>";
    SysinfoDate = "sysinfo-date": "The date in the firmware's tables is none.", "<sysinfo type='smbios'><bios><entry name='date'>31/12/2026</entry></bios></sysinfo>";
    SysinfoUuid = "sysinfo-uuid": "The uuid in the firmware's tables is not the guest's.", "<uuid>86891d0f-b6bb-49f8-a013-bae443c08d82</uuid><sysinfo type='smbios'><system><entry name='uuid'>7405cb72-e384-54a1-a31a-e4638dc373a7</entry></system></sysinfo>";
    TsegSize = "tseg-size": "The memory of system management mode is not in whole MiB.", "<features><smm state='on'><tseg unit='KiB'>1100</tseg></smm></features>";
    Ps2Off = "ps2-off": "A device is on the PS/2 controller, which is switched off.", "<features><ps2 state='off'/></features><devices><input type='mouse' bus='ps2'/></devices>";
    OtherMachine = "other-machine": "A feature or device is of another family of machines.", "<features><hpt resizing='enabled'/></features>";
    Lifecycle = "lifecycle": "What happens at power-off, reboot and crash does not fit together.", "<on_poweroff>restart</on_poweroff><on_reboot>destroy</on_reboot>";
    // Domains: what libvirt refuses of a guest as a whole.
    GenId = "genid": "What tells a copied guest from its original is no uuid.", "<genid>new</genid>";
    MemorySize = "memory-size": "A size of memory is above what can be counted.", "<memory unit='EiB'>9</memory>";
    MemoryDevicesTotal = "memory-devices-total": "A guest's memory devices take all of its memory.", "<memory unit='MiB'>256</memory><devices><memory model='virtio-pmem' access='shared'><source><path>/a</path></source><target><size unit='MiB'>256</size></target></memory></devices>";
    HugepageOverlap = "hugepage-overlap": "Two sizes of pages are stated for one part of the memory.", "<memoryBacking><hugepages><page size='2' unit='MiB'/><page size='1' unit='GiB'/></hugepages></memoryBacking>";
    HugepageConflict = "hugepage-conflict": "Huge pages are stated beside what has none.", "<memoryBacking><hugepages/><source type='anonymous'/></memoryBacking>";
    MinGuarantee = "min-guarantee": "A guest of KVM or QEMU is guaranteed memory.", "<memtune><min_guarantee>1024</min_guarantee></memtune>";
    DuplicateBlkioDevice = "duplicate-blkio-device": "The limits of one device are stated twice.", "<blkiotune><device><path>/dev/sda</path><weight>500</weight></device><device><path>/dev/sda</path><weight>600</weight></device></blkiotune>";
    VcpuState = "vcpu-state": "What is said of single processors does not fit together.", "<vcpu>2</vcpu><vcpus><vcpu id='0' enabled='no'/><vcpu id='1' enabled='yes'/></vcpus>";
    TopologyCount = "topology-count": "Sockets, cores or threads are not stated, or none.", "<vcpu>1</vcpu><cpu><topology sockets='1' cores='1'/></cpu>";
    CpuMigratable = "cpu-migratable": "A processor that is not the host's own is held to what moves to another host.", "<cpu mode='host-model' migratable='on'/>";
    CpuModel = "cpu-model": "A maker or features are stated, and no model.", "<cpu mode='custom'><feature policy='require' name='aes'/></cpu>";
    CpuVendor = "cpu-vendor": "A maker's name has not 12 letters, or a comma.", "<cpu mode='custom'><model vendor_id='Acme'>qemu64</model></cpu>";
    NumaDistance = "numa-distance": "The distance between two cells is none that ACPI has, or to a cell that is not there.", "<cpu><numa><cell id='0' cpus='0' memory='512'><distances><sibling id='0' value='20'/></distances></cell></numa></cpu>";
    NumaCache = "numa-cache": "A cache of a cell's memory is not stated whole, or twice.", "<cpu><numa><cell id='0' cpus='0' memory='512'><cache level='4' associativity='direct' policy='writeback'><size value='10' unit='KiB'/><line value='8' unit='B'/></cache></cell></numa></cpu>";
    NumaInterconnect = "numa-interconnect": "A way between cells is not stated whole, twice, or leads to what is not there.", "<cpu><numa><cell id='0' cpus='0' memory='512'/><interconnects><latency initiator='0' target='1' type='access' value='5'/></interconnects></numa></cpu>";
    NumatuneMode = "numatune-mode": "The memory's mode is restrictive, and a cell's is not.", "<cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><numatune><memory mode='restrictive' nodeset='0'/><memnode cellid='0' mode='strict' nodeset='0'/></numatune>";
    SchedulerPriority = "scheduler-priority": "Scheduling in real time has no priority.", "<cputune><vcpusched vcpus='0' scheduler='fifo'/></cputune>";
    MemoryShare = "memory-share": "A share of memory's speed is above the whole.", "<cputune><memorytune vcpus='0'><node id='0' bandwidth='200'/></memorytune></cputune>";
    IothreadId = "iothread-id": "Threads for input and output are not numbered from 1, each once.", "<iothreads>2</iothreads><iothreadids><iothread id='1'/><iothread id='1'/></iothreadids>";
    IothreadWorkers = "iothread-workers": "A thread's pool has fewer workers at most than at least, or none.", "<defaultiothread thread_pool_min='8' thread_pool_max='4'/>";
    OsType = "os-type": "A guest of KVM or QEMU is to be no whole machine.", "<os><type>linux</type></os>";
    UefiAcpi = "uefi-acpi": "UEFI and ACPI are stated one without the other.", "<os firmware='efi'><type arch='x86_64'>hvm</type></os>";
    SecureBoot = "secure-boot": "Firmware needs protected memory that the machine does not have.", "<os><type machine='pc'>hvm</type><loader readonly='yes' secure='yes' type='pflash'>/fw</loader></os>";
    SmbiosSource = "smbios-source": "The firmware's tables are to come from what is not stated.", "<os><type>hvm</type><smbios mode='sysinfo'/></os>";
    BiosSerial = "bios-serial": "Firmware is to speak on a serial port that is not there.", "<os><type>hvm</type><bios useserial='yes'/></os>";
    FirmwareFeature = "firmware-feature": "Features of firmware exclude each other, or no firmware is chosen by them.", "<os firmware='efi'><type>hvm</type><firmware><feature name='enrolled-keys' enabled='yes'/><feature name='secure-boot' enabled='no'/></firmware></os>";
    FirmwareEntry = "firmware-entry": "An entry of QEMU's device has no name for users, or no value.", "<sysinfo type='fwcfg'><entry name='mine'>x</entry></sysinfo>";
    Hyperv = "hyperv": "A value of Hyper-V's extensions is none that guests take.", "<features><hyperv><spinlocks state='on' retries='100'/></hyperv></features>";
    DirtyRing = "dirty-ring": "The size of rings of pages written to is no power of two from 1024 to 65536.", "<features><kvm><dirty-ring state='on' size='1000'/></kvm></features>";
    HintDedicated = "hint-dedicated": "Processors are the guest's alone, and not the host's own.", "<features><kvm><hint-dedicated state='on'/></kvm></features>";
    ClockOffset = "clock-offset": "A clock's start is not stated as its offset needs.", "<clock offset='timezone'/>";
    ClockTimer = "clock-timer": "A timer does not do what is stated of it.", "<clock offset='utc'><timer name='pit' tickpolicy='merge'/></clock>";
    FibreChannelId = "fibre-channel-id": "An identity on fibre channel cannot be told.", "<resource><fibrechannel appid='a\u{e9}'/></resource>";
    IdMap = "id-map": "A container's users or groups are not told, or its root is nobody.", "<domain type='lxc'><name>a</name><memory>1024</memory><idmap><uid start='0' target='1000' count='10'/></idmap></domain>";
    DuplicatePerfEvent = "duplicate-perf-event": "A counter is stated twice.", "<perf><event name='cmt' enabled='yes'/><event name='cmt' enabled='no'/></perf>";
    EnvironmentName = "environment-name": "The name of a variable is none that a process takes.", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name><memory>1024</memory><qemu:commandline><qemu:env name='9to5' value='x'/></qemu:commandline></domain>";
    ThrottleGroup = "throttle-group": "A group of limits has no name, or another's.", "<throttlegroups><throttlegroup><total_iops_sec>10</total_iops_sec></throttlegroup></throttlegroups>";
    Seclabel = "seclabel": "A security label's manner does not go with what is stated of it.", "<seclabel type='dynamic' model='selinux' relabel='no'/>";
    SeclabelModel = "seclabel-model": "Of several security labels, one has no model.", "<seclabel type='none'/><seclabel type='none' model='dac'/>";
    DuplicateCipher = "duplicate-cipher": "A cipher for wrapping keys is stated twice.", "<keywrap><cipher name='aes' state='on'/><cipher name='aes' state='off'/></keywrap>";
    LaunchSecurity = "launch-security": "What keeps memory from the host lacks its policy.", "<launchSecurity type='sev'><cbitpos>47</cbitpos><reducedPhysBits>1</reducedPhysBits></launchSecurity>";
    MemorySlots = "memory-slots": "There is no slot for a memory device.", "<cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='dimm'><target><size>524288</size><node>0</node></target></memory></devices>";
    MemoryTarget = "memory-target": "A memory device's size or cell is not stated, or stated where it has none.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='dimm'><target><size>524288</size></target></memory></devices>";
    MemorySource = "memory-source": "A memory device that keeps what is written lacks its file, or does not share or keep it.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='nvdimm'><target><size>524288</size><node>0</node></target></memory></devices>";
    MemoryLabel = "memory-label": "An NVDIMM's label is too small or too large, or missing where it is needed.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='nvdimm'><source><path>/a</path></source><target><size>524288</size><node>0</node><label><size unit='KiB'>64</size></label></target></memory></devices>";
    MemoryBlock = "memory-block": "The blocks of a memory device are no power of two, or its sizes no multiple of them.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='virtio-mem'><target><size>524288</size><node>0</node><block>3000</block><requested>0</requested></target></memory></devices>";
    // Domains: places of devices.
    AddressInUse = "address-in-use": "Two devices have one place.", "<devices><interface type='user'><address type='pci' slot='3' function='0'/></interface><interface type='user'><address type='pci' slot='3' function='0'/></interface></devices>";
    BuiltinPlace = "builtin-place": "A device that is part of the machine is elsewhere than the machine has it, or another is in its place.", "<os><type machine='pc'>hvm</type></os><devices><interface type='user'><address type='pci' slot='1' function='1'/></interface></devices>";
    AddressRange = "address-range": "A number of a place is none that its bus has.", "<interface type='user'><address type='pci' bus='0' slot='0x20' function='0'/></interface>";
    AddressType = "address-type": "A device has a kind of place that its bus does not know.", "<disk type='file' device='disk'><source file='/a'/><target dev='sda' bus='sata'/><address type='pci' slot='4' function='0'/></disk>";
    AddressPart = "address-part": "A place says what its type does not have.", "<interface type='user'><address type='pci' slot='3' controller='1'/></interface>";
    AddressBus = "address-bus": "A device is on a bus that does not take it.", "<controller type='pci' index='1' model='pci-expander-bus'><address type='pci' bus='2' slot='4'/></controller>";
    DuplicateController = "duplicate-controller": "Two controllers of one type have one number.", "<devices><controller type='scsi' index='0'/><controller type='scsi' index='0'/></devices>";
    RootBusAddress = "root-bus-address": "The root bus has a place.", "<controller type='pci' index='0' model='pci-root'><address type='pci' slot='4'/></controller>";
    RootPorts = "root-ports": "There are more root ports than the root bus has places.", "";
    ControllerMachine = "controller-machine": "A controller is not for the machine.", "<os><type machine='q35'>hvm</type></os><devices><controller type='pci' index='0' model='pci-root'/></devices>";
    UsbPorts = "usb-ports": "A USB controller has more ports than its model can, or other ports than it has.", "<controller type='usb' model='qemu-xhci' ports='16'/>";
    UsbNone = "usb-none": "A device is on USB, and the guest's USB controller is of model none.", "<devices><controller type='usb' model='none'/><input type='tablet' bus='usb'/></devices>";
    UsbHub = "usb-hub": "A USB place is at a port, or behind a hub, that is not there.", "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1.2'/></input>";
    BootOrder = "boot-order": "A place in the order of boot is not a number from 1.", "<interface type='user'><boot order='0'/></interface>";
    BootOrderTwice = "boot-order-twice": "Two devices have one place in the order of boot.", "<devices><interface type='user'><boot order='1'/></interface><interface type='user'><boot order='1'/></interface></devices>";
    BootOrderBesideOsBoot = "boot-order-beside-os-boot": "Devices have an order of boot, and <os> lists kinds of devices to boot from.", "<os><type>hvm</type><boot dev='hd'/></os><devices><interface type='user'><boot order='1'/></interface></devices>";
    DuplicateAlias = "duplicate-alias": "Two devices have one name of the user's.", "<devices><interface type='user'><alias name='ua-a'/></interface><interface type='user'><alias name='ua-a'/></interface></devices>";
    AcpiIndex = "acpi-index": "A device that is not on PCI has a number in ACPI's tables.", "<disk type='file'><source file='/a'/><target dev='sda' bus='sata'/><acpi index='3'/><address type='drive' controller='0' bus='0' unit='0'/></disk>";
    ControllerModel = "controller-model": "A controller's model is of another type, or none that the guest can have.", "<controller type='usb' index='0' model='virtio-scsi'/>";
    PciNumber = "pci-number": "A number of a PCI controller is none that it can have.", "<controller type='pci' index='256' model='pci-bridge'/>";
    PciNumberTaken = "pci-number-taken": "Two PCI ports or expanders have one number by which the machine tells them apart.", "<os><type machine='q35'>hvm</type></os><devices><controller type='pci' index='1' model='pcie-root-port'><target chassis='2'/></controller><controller type='pci' index='2' model='pcie-root-port'/></devices>";
    PciOption = "pci-option": "A PCI controller says what its model does not have.", "<controller type='pci' index='1' model='pci-bridge'><target chassis='3'/></controller>";
    // Domains: disks.
    DuplicateTarget = "duplicate-target": "Two disks, or two file systems, have one name in the guest.", "{domain: a, memory: 1 GiB, disks: [{file: /a, dev: vda}, {file: /b, dev: vda}]}";
    DiskTarget = "disk-target": "A disk in XML has no name in the guest.", "<disk type='file'><source file='/a'/></disk>";
    DiskSource = "disk-source": "A disk's source lacks what its type needs.", "<disk type='file' device='disk'><target dev='vda'/></disk>";
    DiskSourceType = "disk-source-type": "A disk's source is of another type than the disk.", "<disk type='block' device='disk'><source file='/a' dev='/dev/sda'/><target dev='vda'/></disk>";
    SourceHosts = "source-hosts": "A protocol has no server, or more servers than it takes.", "<disk type='network'><source protocol='iscsi' name='iqn.a'/><target dev='vda'/></disk>";
    DiskFormat = "disk-format": "A disk is in a format that no driver reads.", "<disk type='file'><driver type='iso'/><source file='/a'/><target dev='vda'/></disk>";
    LunDisk = "lun-disk": "device='lun' and what it hands through do not fit the disk.", "<disk type='file' device='lun'><source file='/a'/><target dev='sda' bus='scsi'/></disk>";
    CopyOnRead = "copy-on-read": "What is read from a disk is to be kept on it, and it cannot be.", "<disk type='file'><driver type='qcow2' copy_on_read='on'/><source file='/a'/><target dev='vda'/><readonly/></disk>";
    SecretType = "secret-type": "A secret has no type, or not the protocol's.", "<disk type='network'><source protocol='rbd' name='a/b'><auth username='me'><secret type='iscsi' usage='x'/></auth></source><target dev='vda'/></disk>";
    SecretReference = "secret-reference": "A secret is named by its uuid and its usage, or by neither.", "<disk type='network'><source protocol='rbd' name='a/b'><auth username='me'><secret type='ceph'/></auth></source><target dev='vda'/></disk>";
    VendorBus = "vendor-bus": "A disk that is not on SCSI tells its maker or product.", "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><vendor>ACME</vendor></disk>";
    VirtioModel = "virtio-model": "A disk's model does not go with its bus.", "<disk type='file' model='virtio'><source file='/a'/><target dev='sda' bus='sata'/></disk>";
    EmptyDrive = "empty-drive": "A drive without a medium is on a bus that cannot eject.", "<disk type='file' device='cdrom'><target dev='vda' bus='virtio'/></disk>";
    FloppyBus = "floppy-bus": "A floppy drive is not on fdc, or another drive is.", "<disk type='file' device='disk'><source file='/a'/><target dev='fda' bus='fdc'/></disk>";
    IotuneTotal = "iotune-total": "A limit of all requests stands beside a limit of reads or writes.", "<disk type='file'><source file='/a'/><target dev='vda'/><iotune><total_iops_sec>10</total_iops_sec><read_iops_sec>5</read_iops_sec></iotune></disk>";
    DuplicateSeclabel = "duplicate-seclabel": "Two security labels are of one model.", "<disk type='file'><source file='/a'><seclabel model='dac' relabel='no'/><seclabel model='dac' relabel='no'/></source><target dev='vda'/></disk>";
    SeclabelRelabel = "seclabel-relabel": "A file is to be labelled where the guest's own label says that nothing is.", "<seclabel type='static' model='selinux' relabel='no'><label>x</label></seclabel><devices><disk type='file'><source file='/a'><seclabel model='selinux' relabel='yes'><label>y</label></seclabel></source><target dev='vda'/></disk></devices>";
    DiskName = "disk-name": "A disk's name is none that its device and bus have.", "<disk type='file'><source file='/a'/><target dev='disk0'/></disk>";
    DiskTray = "disk-tray": "A disk that has no tray says where it is.", "<disk type='file'><source file='/a'/><target dev='vda' tray='open'/></disk>";
    DiskRemovable = "disk-removable": "A disk is told to be removable on a bus that does not tell.", "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio' removable='on'/></disk>";
    VirtioOption = "virtio-option": "An option of virtio stands at a device that is none.", "<disk type='file'><driver name='qemu' queues='4'/><source file='/a'/><target dev='sda' bus='sata'/></disk>";
    DiskWwn = "disk-wwn": "A world wide name is not 16 hexadecimal digits, or its disk is on a bus without.", "<disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/><wwn>5000c500</wwn></disk>";
    DiskVendor = "disk-vendor": "A disk's maker or product is too long, or not printable.", "<disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/><vendor>A LONG NAME</vendor></disk>";
    DiskSerial = "disk-serial": "A disk's serial number has other characters than letters, digits, spaces and -_.+, or cannot be chosen.", "<disk type='file'><source file='/a'/><target dev='vda'/><serial>a/b</serial></disk>";
    StartupPolicy = "startup-policy": "What happens without a medium is stated for a disk that must have one.", "<disk type='file'><source file='/a' startupPolicy='requisite'/><target dev='vda'/></disk>";
    Qcow2Only = "qcow2-only": "A disk of another format says what only qcow2 does.", "<disk type='file'><driver name='qemu' type='raw' discard_no_unref='on'/><source file='/a'/><target dev='vda'/></disk>";
    FatDisk = "fat-disk": "What is shown as a FAT disk is no directory, or a directory is shown as something else.", "<disk type='file'><driver name='qemu' type='fat'/><source file='/a'/><target dev='vda'/></disk>";
    VhostUserDisk = "vhost-user-disk": "A disk that another process serves says what that process is not told.", "<memoryBacking><access mode='shared'/></memoryBacking><devices><disk type='vhostuser'><source type='unix' path='/a'/><target dev='vda' bus='virtio'/><readonly/></disk></devices>";
    DiskGeometry = "disk-geometry": "A geometry is stated on a bus that has none.", "<disk type='file'><source file='/a'/><target dev='sda' bus='usb'/><geometry cyls='16' heads='16' secs='63'/></disk>";
    CdromBus = "cdrom-bus": "A drive of CDs is on a bus that cannot eject.", "<disk type='file' device='cdrom'><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
    RotationRate = "rotation-rate": "A device that does not tell how fast it turns has a rate.", "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio' rotation_rate='7200'/></disk>";
    ReadonlyBus = "readonly-bus": "A disk is read-only on a bus whose disks cannot be.", "<disk type='file'><source file='/a'/><target dev='sda' bus='sata'/><readonly/></disk>";
    NativeIo = "native-io": "Requests go past the host's cache, and the host is to cache.", "<disk type='file'><driver name='qemu' io='native'/><source file='/a'/><target dev='vda'/></disk>";
    DiskDriver = "disk-driver": "A disk's driver is not QEMU's.", "<disk type='file'><driver name='tap'/><source file='/a'/><target dev='vda'/></disk>";
    SharedFormat = "shared-format": "An image that one guest at a time may write is shared.", "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/a'/><target dev='vda'/><shareable/></disk>";
    DiskIothread = "disk-iothread": "Threads that serve a disk are on a bus without, stand twice, or leave queues out.", "<iothreads>1</iothreads><devices><disk type='file'><driver name='qemu' iothread='1'/><source file='/a'/><target dev='sda' bus='sata'/></disk></devices>";
    TransientDisk = "transient-disk": "Changes to a disk are dropped that cannot be kept apart.", "<disk type='block'><source dev='/dev/sdb'/><target dev='vda'/><transient/></disk>";
    IotuneLimit = "iotune-limit": "A limit is greater than any that can be kept, or is on a bus that cannot be limited.", "<disk type='file'><source file='/a'/><target dev='vda'/><iotune><total_iops_sec>1000000000000001</total_iops_sec></iotune></disk>";
    IotuneGroup = "iotune-group": "Disks of one group have different limits, or none.", "<disk type='file'><source file='/a'/><target dev='vda'/><iotune><group_name>g</group_name></iotune></disk>";
    SourceName = "source-name": "A server is not told what to read.", "<disk type='network'><source protocol='rbd'><host name='h'/></source><target dev='vda'/></disk>";
    SourceServer = "source-server": "A server has no name, or a socket without its path.", "<disk type='network'><source protocol='nbd'><host transport='unix'/></source><target dev='vda'/></disk>";
    SourceProtocol = "source-protocol": "A source says what its protocol does not know.", "<disk type='network'><source protocol='rbd' name='a/b' query='c=d'/><target dev='vda'/></disk>";
    DuplicateCookie = "duplicate-cookie": "Two cookies have one name.", "<disk type='network'><source protocol='http' name='a'><host name='h'/><cookies><cookie name='c'>1</cookie><cookie name='c'>2</cookie></cookies></source><target dev='vda'/></disk>";
    AuthProtocol = "auth-protocol": "A server is told who one is, and its protocol does not ask.", "<disk type='network'><source protocol='nbd' name='a'><host name='h'/><auth username='me'><secret type='iscsi' usage='x'/></auth></source><target dev='vda'/></disk>";
    AuthUser = "auth-user": "It is not said who one is towards a server, or with which secret.", "<disk type='network'><source protocol='rbd' name='a/b'><auth><secret type='ceph' usage='x'/></auth></source><target dev='vda'/></disk>";
    NvmeSource = "nvme-source": "A disk on NVMe does not say which namespace of which device it is.", "<disk type='nvme'><source type='pci' namespace='0'><address domain='0' bus='1' slot='0' function='0'/></source><target dev='vda'/></disk>";
    DiskEncryption = "disk-encryption": "A disk's encryption is of a kind that disks do not have.", "<disk type='file'><source file='/a'><encryption format='luks'><secret type='passphrase' usage='x'/><cipher name='aes' size='256'/></encryption></source><target dev='vda'/></disk>";
    Reservations = "reservations": "A disk is reserved that cannot be, or no helper is told.", "<disk type='block'><source dev='/dev/sdb'><reservations managed='yes'/></source><target dev='sda' bus='scsi'/></disk>";
    BackingStore = "backing-store": "An image below another has no format or source.", "<disk type='file'><source file='/a'/><backingStore type='file'><source file='/b'/></backingStore><target dev='vda'/></disk>";
    // Domains: interfaces.
    InterfaceType = "interface-type": "An interface has no type.", "<interface><model type='virtio'/></interface>";
    InterfaceSource = "interface-source": "An interface's source lacks what its type needs.", "<interface type='network'/>";
    MulticastMac = "multicast-mac": "The address of an interface or a bridge is a group's.", "<interface type='user'><mac address='53:54:00:12:34:56'/></interface>";
    LinkName = "link-name": "A name is none that the kernel takes for a link.", "<network><name>a</name><bridge name='a-very-long-bridge-name'/></network>";
    MtuRange = "mtu-range": "The largest packet is not between 68 and 65535 bytes.", "<interface type='ethernet'><mtu size='40'/></interface>";
    DuplicateTap = "duplicate-tap": "Two interfaces have one device on the host.", "<devices><interface type='ethernet'><target dev='tap7'/></interface><interface type='ethernet'><target dev='tap7'/></interface></devices>";
    InterfaceSocket = "interface-socket": "An interface to another program's socket does not say which, or how.", "<interface type='vhostuser'><source type='unix' path='/a'/></interface>";
    InterfaceModel = "interface-model": "An interface's model is no name of one, or not the one that its type needs.", "<interface type='user'><model type='a b'/></interface>";
    InterfaceAddress = "interface-address": "An interface is given addresses or routes that its type does not give.", "<interface type='ethernet'><ip address='10.0.0.2' prefix='24'/></interface>";
    VlanTags = "vlan-tags": "VLAN tags do not go together.", "<interface type='user'><vlan/></interface>";
    BandwidthAverage = "bandwidth-average": "A rate has no average.", "<interface type='ethernet'><bandwidth><inbound peak='10'/></bandwidth></interface>";
    BandwidthFloor = "bandwidth-floor": "A rate is guaranteed where nothing is shared.", "<interface type='ethernet'><bandwidth><outbound average='10' floor='5'/></bandwidth></interface>";
    VirtualPort = "virtual-port": "The port of a switch is told what its type does not know, or not what it needs.", "<interface type='bridge'><source bridge='br0'/><virtualport type='802.1Qbh'/></interface>";
    RouteGateway = "route-gateway": "A route's gateway is of another family than its target, or in no network that is stated.", "<domain type='lxc'><name>a</name><memory unit='MiB'>512</memory><os><type>exe</type></os><devices><interface type='ethernet'><route address='10.1.0.0' prefix='16' gateway='fd00::1'/></interface></devices></domain>";
    IsolatedPort = "isolated-port": "A port is kept apart that is not a bridge's.", "<interface type='user'><port isolated='yes'/></interface>";
    PasstOnly = "passt-only": "An interface says what only passt does, or has passt with another type.", "<interface type='user'><portForward proto='tcp'><range start='22'/></portForward></interface>";
    UnmanagedTap = "unmanaged-tap": "An interface has somebody else's tap, and its type makes its own.", "<interface type='user'><target dev='tap7' managed='no'/></interface>";
    QueueSize = "queue-size": "The size of a queue is not a power of two.", "<interface type='ethernet'><model type='virtio'/><driver rx_queue_size='300'/></interface>";
    MtuType = "mtu-type": "The largest packet is chosen of an interface where it cannot be.", "<interface type='user'><mtu size='9000'/></interface>";
    CoalesceType = "coalesce-type": "Interrupts of an interface are gathered where they cannot be.", "<interface type='user'><coalesce><rx><frames max='7'/></rx></coalesce></interface>";
    RomDisabled = "rom-disabled": "A device's firmware is switched off and described.", "<interface type='user'><rom enabled='no' file='/a'/></interface>";
    Teaming = "teaming": "An interface that stands in for another does not name it, or cannot.", "<interface type='ethernet'><teaming type='persistent' persistent='ua-a'/></interface>";
    // Domains: devices of the host's.
    HostdevType = "hostdev-type": "A device of the host's has no type.", "<hostdev mode='subsystem'/>";
    HostdevSource = "hostdev-source": "A device of the host's is not named as its type needs.", "<hostdev mode='subsystem' type='pci'/>";
    DuplicateHostdev = "duplicate-hostdev": "A device of the host's is handed over twice.", "<devices><hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='86891d0f-b6bb-49f8-a013-bae443c08d82'/></source></hostdev><hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='86891d0f-b6bb-49f8-a013-bae443c08d82'/></source></hostdev></devices>";
    DuplicateRamfb = "duplicate-ramfb": "Two devices are to show something before their driver runs.", "<devices><graphics type='vnc'/><hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on' ramfb='on'><source><address uuid='86891d0f-b6bb-49f8-a013-bae443c08d82'/></source></hostdev><hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on' ramfb='on'><source><address uuid='7405cb72-e384-54a1-a31a-e4638dc373a7'/></source></hostdev></devices>";
    HostdevBoot = "hostdev-boot": "A device of the host's cannot be booted from.", "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/><boot order='1'/></hostdev>";
    HostdevSgio = "hostdev-sgio": "Commands are filtered or handed through for a device that is not SCSI.", "<hostdev mode='subsystem' type='scsi_host' sgio='filtered'><source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>";
    HostdevModel = "hostdev-model": "A mediated device has no model, or one that is there already.", "<hostdev mode='subsystem' type='mdev'><source><address uuid='86891d0f-b6bb-49f8-a013-bae443c08d82'/></source></hostdev>";
    HostdevDisplay = "hostdev-display": "A mediated device has a display that it cannot have, or that nothing shows.", "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on'><source><address uuid='86891d0f-b6bb-49f8-a013-bae443c08d82'/></source></hostdev>";
    HostdevOption = "hostdev-option": "A device of the host's says what its type does not have.", "<hostdev mode='subsystem' type='pci'><source startupPolicy='optional'><address domain='0' bus='6' slot='2' function='0'/></source></hostdev>";
    // Domains: other devices.
    ChardevPath = "chardev-path": "A character device lacks a path.", "<serial type='unix'/>";
    ChardevTcp = "chardev-tcp": "A TCP connection lacks its host or port.", "<serial type='tcp'><source mode='connect' host='127.0.0.1'/></serial>";
    ChardevUdp = "chardev-udp": "UDP lacks the port to send to, or has two sources of one direction.", "<serial type='udp'><source mode='bind' host='127.0.0.1' service='1'/></serial>";
    ChardevSources = "chardev-sources": "A character device has more sources than its type takes.", "<serial type='file'><source path='/a'/><source path='/b'/></serial>";
    ChardevReconnect = "chardev-reconnect": "A lost connection is to be made again by the side that waits for it, or at once.", "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='1'><reconnect enabled='yes' timeout='5'/></source></serial>";
    GraphicsListen = "graphics-listen": "A display's listener lacks what its type needs, or is stated twice and differently.", "<graphics type='vnc'><listen type='network'/></graphics>";
    MemoryNode = "memory-node": "A memory device is in a NUMA cell that the guest does not have.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='dimm'><target><size>524288</size><node>3</node></target></memory></devices>";
    MemoryRequested = "memory-requested": "More memory is requested than the device has.", "<maxMemory slots='1' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='virtio-mem'><target><size>524288</size><node>0</node><block>2048</block><requested>1048576</requested></target></memory></devices>";
    MemoryOverlap = "memory-overlap": "Two memory devices lie on one another.", "<maxMemory slots='2' unit='GiB'>4</maxMemory><cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu><devices><memory model='dimm'><target><size>524288</size><node>0</node><address base='0x100000000'/></target></memory><memory model='dimm'><target><size>524288</size><node>0</node><address base='0x110000000'/></target></memory></devices>";
    ShmemServer = "shmem-server": "Shared memory has a server that its model does not take, or lacks the one it needs.", "<shmem name='a'><model type='ivshmem-doorbell'/></shmem>";
    TpmBackend = "tpm-backend": "A TPM has no backend, or one that is not reached.", "<tpm model='tpm-crb'/>";
    RngBackend = "rng-backend": "A source of randomness has no backend, or one that is not reached.", "<rng model='virtio'/>";
    Virtiofs = "virtiofs": "A file system of virtiofs says what virtiofs cannot do.", "<memoryBacking><access mode='shared'/></memoryBacking><devices><filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/><readonly/></filesystem></devices>";
    InputModel = "input-model": "An input device's model does not go with its bus or type.", "<input type='mouse' bus='usb' model='virtio'/>";
    IommuMachine = "iommu-machine": "An IOMMU is not for the machine.", "<os><type machine='pc'>hvm</type></os><devices><iommu model='intel'/></devices>";
    ChardevTarget = "chardev-target": "How the guest sees a character device is not said, or does not go together.", "<channel type='pty'/>";
    ChardevChannel = "chardev-channel": "A port that displays lead to has no name, or none that it can have.", "<devices><graphics type='spice'/><serial type='spiceport'><source channel='a b'/></serial></devices>";
    IsaPort = "isa-port": "A serial port on ISA has a number that is taken or not there.", "<serial type='pty'><target type='isa-serial' port='7'/></serial>";
    ConsoleSerial = "console-serial": "A console other than the first is a serial port.", "<devices><console type='pty'><target type='serial' port='0'/></console><console type='pty'><target type='serial' port='1'/></console></devices>";
    ChannelName = "channel-name": "Two channels have one name in the guest.", "<devices><channel type='unix'><target type='virtio' name='a'/></channel><channel type='unix'><target type='virtio' name='a'/></channel></devices>";
    Smartcard = "smartcard": "A reader of smart cards lacks what its mode needs, or is not the only one.", "<smartcard mode='host-certificates'><certificate>a</certificate></smartcard>";
    SpiceNeeded = "spice-needed": "Sound goes over spice, and there is no such display.", "<audio id='1' type='spice'/>";
    DisplayPassword = "display-password": "A display's password is longer than is compared, or holds until no moment.", "<graphics type='vnc' passwd='more than eight'/>";
    DbusDisplay = "dbus-display": "A display on D-Bus has an address that it does not use, or plays elsewhere.", "<graphics type='dbus' p2p='yes' address='unix:path=/a'/>";
    DuplicateDisplay = "duplicate-display": "A guest has two displays of one type, or one of a type that it cannot have.", "<devices><graphics type='vnc'/><graphics type='vnc'/></devices>";
    DisplayPort = "display-port": "A display is at a port that there is not, or that another display has.", "<graphics type='vnc' port='80' autoport='no'/>";
    EglHeadless = "egl-headless": "What draws without a screen stands beside a display that it does not draw for.", "<devices><graphics type='egl-headless'/><graphics type='sdl'/></devices>";
    VideoPrimary = "video-primary": "Two graphics cards are the first, or one is not that can only be.", "<devices><video><model type='vga'/></video><video><model type='cirrus'/></video></devices>";
    VideoNone = "video-none": "A card that says that there is none stands beside another.", "<devices><video><model type='none'/></video><video><model type='virtio'/></video></devices>";
    VideoMemory = "video-memory": "A graphics card's memory is of another type of cards, or has no size that it can have.", "<video><model type='virtio' vgamem='16384'/></video>";
    VideoOption = "video-option": "A graphics card says what its type does not have.", "<video><model type='cirrus'><resolution x='800' y='600'/></model></video>";
    AudioId = "audio-id": "A number of <audio> is 0, is taken, or is nobody's.", "<sound model='ich9'><audio id='3'/></sound>";
    InputBus = "input-bus": "An input device is on a bus where it cannot be.", "<input type='tablet' bus='ps2'/>";
    InputSource = "input-source": "An input device of the host's is not named, or one is named that is not handed over.", "<input type='passthrough' bus='virtio'/>";
    IommuOption = "iommu-option": "A unit that translates addresses says what its model does not have.", "<features><acpi/></features><devices><iommu model='virtio'><driver aw_bits='48'/></iommu></devices>";
    TpmVersion = "tpm-version": "A TPM is of a version that its model or options do not go with.", "<tpm model='tpm-crb'><backend type='emulator' version='1.2'/></tpm>";
    DuplicateTpm = "duplicate-tpm": "A guest has two TPMs.", "<devices><tpm model='tpm-tis'><backend type='emulator'/></tpm><tpm model='tpm-tis'><backend type='emulator'/></tpm></devices>";
    DuplicatePanic = "duplicate-panic": "A guest has two panic devices of one model.", "<devices><panic model='isa'/><panic/></devices>";
    WatchdogAction = "watchdog-action": "Two watchdogs do different things.", "<devices><watchdog model='i6300esb' action='reset'/><watchdog model='i6300esb' action='pause'/></devices>";
    ShmemName = "shmem-name": "Shared memory has a name that no file can have.", "<shmem name='a/b'><model type='ivshmem-plain'/></shmem>";
    ShmemSize = "shmem-size": "Shared memory is below 1 MiB, or no power of two.", "<shmem name='a'><model type='ivshmem-plain'/><size unit='MiB'>3</size></shmem>";
    VsockCid = "vsock-cid": "A guest's address on sockets is the host's.", "<vsock><cid address='2'/></vsock>";
    BalloonModel = "balloon-model": "A balloon is of a model that the guest cannot have.", "<memballoon model='xen'/>";
    RedirFilter = "redir-filter": "A rule on USB devices has a number that none can have.", "<redirfilter><usbdev class='0x100' allow='yes'/></redirfilter>";
    FilesystemOption = "filesystem-option": "A file system says what its type or driver does not have.", "<filesystem type='block'><source dev='/dev/sdb'/><target dir='a'/></filesystem>";
    SharedMemory = "shared-memory": "Another process serves a device in memory that is not shared with it.", "<filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/></filesystem>";
    SoundModel = "sound-model": "A sound card is of a model that the guest cannot have.", "<sound model='ich7'/>";
    // Networks.
    ForwardMode = "forward-mode": "A network says what its mode does not do.", "<network><name>a</name><forward mode='route'><nat><port start='1024' end='2048'/></nat></forward><ip address='10.0.0.1' prefix='24'/></network>";
    DuplicateForwardDevice = "duplicate-forward-device": "A network's device is stated twice.", "<network><name>a</name><forward mode='passthrough'><interface dev='eth0'/><interface dev='eth0'/></forward></network>";
    PhysicalFunctions = "physical-functions": "A network has more than one physical function.", "<network><name>a</name><forward mode='hostdev'><pf dev='eth0'/><pf dev='eth1'/></forward></network>";
    PortRange = "port-range": "A range of ports ends before it begins.", "<network><name>a</name><forward mode='nat'><nat><port start='2048' end='1024'/></nat></forward><ip address='10.0.0.1' prefix='24'/></network>";
    NatRange = "nat-range": "A range of addresses to translate to ends before it begins, is not IPv4's, or is not the only one.", "<network><name>a</name><forward mode='nat'><nat><address start='10.0.0.9' end='10.0.0.1'/></nat></forward><ip address='10.0.0.1' prefix='24'/></network>";
    NetworkAddress = "network-address": "A network that reaches outside, or one of its <ip>, has no address.", "<network><name>a</name><ip prefix='24'/></network>";
    NetworkSize = "network-size": "A network's size is stated twice, or is none for its address.", "<network><name>a</name><ip address='10.0.0.1' prefix='40'/></network>";
    IpFamily = "ip-family": "An address is of the other family than stated.", "<network><name>a</name><ip family='ipv6' address='10.0.0.1' prefix='24'/></network>";
    DhcpRangeOrder = "dhcp-range-order": "A range of DHCP ends before it begins.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.9' end='10.0.0.2'/></dhcp></ip></network>";
    DhcpRangeOutsideNetwork = "dhcp-range-outside-network": "A range of DHCP is not within its network.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.1.2' end='10.0.1.9'/></dhcp></ip></network>";
    DhcpHost = "dhcp-host": "A fixed address of DHCP does not say whose it is.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><host ip='10.0.0.9'/></dhcp></ip></network>";
    DhcpHostOutsideNetwork = "dhcp-host-outside-network": "A fixed address of DHCP is not within its network.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:01' ip='10.0.1.9'/></dhcp></ip></network>";
    DuplicateDhcpHost = "duplicate-dhcp-host": "Two fixed entries of DHCP share an address, a MAC, an id or a name.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:01' ip='10.0.0.9'/><host mac='52:54:00:00:00:02' ip='10.0.0.9'/></dhcp></ip></network>";
    DhcpTwice = "dhcp-twice": "A network gives addresses of one family from two places.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp></ip><ip address='10.0.1.1' prefix='24'><dhcp><range start='10.0.1.2' end='10.0.1.9'/></dhcp></ip></network>";
    DuplicatePortgroup = "duplicate-portgroup": "Two port groups have one name.", "<network><name>a</name><portgroup name='x'/><portgroup name='x'/></network>";
    DefaultPortgroup = "default-portgroup": "Two port groups are the default.", "<network><name>a</name><portgroup name='x' default='yes'/><portgroup name='y' default='yes'/></network>";
    ForwardDevice = "forward-device": "A network's devices are not named, or not in one way.", "<network><name>a</name><forward mode='hostdev'><pf dev='eth0'/><address type='pci' bus='1' slot='0' function='0'/></forward></network>";
    Title = "title": "A title has more than one line.", "<network><name>a</name><title>one\ntwo</title></network>";
    TftpFamily = "tftp-family": "Files to boot from are served over IPv6.", "<network><name>a</name><ip family='ipv6' address='fd00::1' prefix='64'><tftp root='/a'/></ip></network>";
    DhcpRangeSize = "dhcp-range-size": "A range of DHCP has the network's own address or its address for all, or more than 65536.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.2' end='10.0.0.255'/></dhcp></ip></network>";
    DhcpLease = "dhcp-lease": "Addresses are given for less than two minutes.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.2' end='10.0.0.9'><lease expiry='1'/></range></dhcp></ip></network>";
    DnsDisabled = "dns-disabled": "A network without a name server says what it answers.", "<network><name>a</name><dns enable='no'><forwarder addr='192.0.2.1'/></dns></network>";
    DnsRecord = "dns-record": "A record of a name server lacks a part, or has one that DNS does not take.", "<network><name>a</name><dns><srv service='ldap' protocol='tcp' port='389'/></dns></network>";
    RouteAddress = "route-address": "A route does not lead to a network, or its size is stated twice.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'/><route address='10.1.0.7' prefix='16' gateway='10.0.0.2'/></network>";
    RouteMetric = "route-metric": "A route's metric is 0.", "<network><name>a</name><ip address='10.0.0.1' prefix='24'/><route address='10.1.0.0' prefix='16' gateway='10.0.0.2' metric='0'/></network>";
    // Packet filters, storage, secrets.
    FilterLoop = "filter-loop": "A packet filter refers to itself, or to one that leads back to it.", "<filter name='a'><filterref filter='a'/></filter>";
    FilterPorts = "filter-ports": "Ports are stated without a protocol that has ports.", "<filter name='a'><rule action='accept' direction='in'><ip dstportstart='80'/></rule></filter>";
    MacMask = "mac-mask": "A mask of Ethernet addresses has ones after zeros.", "<filter name='a'><rule action='accept' direction='in'><mac srcmacaddr='1:2:3:4:5:6' srcmacmask='ff:0:ff:0:0:0'/></rule></filter>";
    RecordName = "record-name": "A snapshot's or a checkpoint's name begins with a dot.", "<domainsnapshot><name>.a</name></domainsnapshot>";
    PoolAdapter = "pool-adapter": "A SCSI adapter is not told as its type needs.", "<pool type='scsi'><name>a</name><source><adapter type='fc_host' wwnn='20000000c9831b4b'/></source><target><path>/dev/disk/by-path</path></target></pool>";
    PoolAuth = "pool-auth": "Who one is towards a pool's server is not said whole.", "<pool type='rbd'><name>a</name><source><host name='h'/><name>p</name><auth type='ceph' username='me'/></source></pool>";
    PoolFeature = "pool-feature": "A pool says what its type does not take.", "<pool type='logical'><name>a</name><features><cow state='no'/></features></pool>";
    StorageFormat = "storage-format": "A format is none that a pool of its type, or a volume, has.", "<pool type='fs'><name>a</name><source><device path='/dev/sdb1'/><format type='ntfs'/></source><target><path>/a</path></target></pool>";
    FileMode = "file-mode": "A file's mode is more than the rights of owner, group and others.", "<pool type='dir'><name>a</name><target><path>/a</path><permissions><mode>01777</mode></permissions></target></pool>";
    FileSize = "file-size": "A volume is larger than a file can be.", "<volume><name>a</name><capacity unit='EiB'>9</capacity></volume>";
    VolumeCompat = "volume-compat": "The version of a volume's format is none.", "<volume><name>a</name><capacity>1</capacity><target><compat>new</compat></target></volume>";
    PoolTarget = "pool-target": "A pool has no place on the host.", "<pool type='dir'><name>a</name></pool>";
    PoolSource = "pool-source": "A pool's source lacks what its type needs.", "<pool type='netfs'><name>a</name><source><host name='h'/></source><target><path>/a</path></target></pool>";
    VolumeCapacity = "volume-capacity": "A volume has no capacity.", "<volume><name>a</name></volume>";
    SecretUsage = "secret-usage": "A secret does not say what it is used for.", "<secret><usage type='volume'/></secret>";
    // What only the plan for a host can tell.
    Unsupported = "unsupported": "What is asked for is not something that the driver, the network or the pool can do.", "";
    Contradiction = "contradiction": "Two parts of a definition cannot both hold on a host.", "";
    BadName = "bad-name": "A name cannot be one on a host, or not one of its kind.", "";
    BadPath = "bad-path": "A path is not absolute, or has `..` in it.", "";
    Range = "range": "A number or a size is outside of what a host takes.", "";
    InUse = "in-use": "Something that is to be removed is used by what stays.", "";
    Orphan = "orphan": "A guest on the host is marked as vireo's, and nothing says what is wanted of it.", "";
    Blocked = "blocked": "What an object needs is refused.", "";
    DependencyCycle = "dependency-cycle": "Objects need each other in a circle.", "";
    NetworkRules = "network-rules": "No packet filter rules can be made of a network.", "";
    Dnsmasq = "dnsmasq": "No configuration of dnsmasq can be made of a network.", "";
    NwFilter = "nwfilter": "No packet filter rules can be made of a guest's filter.", "";
    ImageInUse = "image-in-use": "Two guests would write to one image.", "";
    DataLoss = "data-loss": "A volume that was made is gone: its data is lost, and an empty one is not put in its place.", "";
    Exists = "exists": "Something that vireo did not make stands where an object is wanted.", "";
    MissingBridge = "missing-bridge": "A link of the host's own that is to be used is not there, or is no bridge.", "";
    MissingFile = "missing-file": "A file of the host's own, such as an image, a kernel or the emulator, is not there.", "";
    NotOurs = "not-ours": "A link on the host has the name that one of vireo's is to have, and is not vireo's.", "";
    WouldMove = "would-move": "A volume is wanted at another place than where its data is.", "";
    WouldShrink = "would-shrink": "A volume is wanted smaller than it is.", "";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Kind;
    use crate::domain::Domain;
    use crate::element::Element as _;
    use crate::source::Source;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// The example as a whole document.
    fn document(example: &str) -> String {
        let Some(start) = example.strip_prefix('<') else {
            return example.to_owned();
        };
        let tag = start.split([' ', '>', '/']).next().unwrap_or_default();
        let whole = tag.starts_with('!') || Kind::from_root(tag).is_some() || tag == "netwrok";
        let memory = if example.contains("<memory>") || example.contains("<memory unit") {
            ""
        } else {
            "<memory unit='MiB'>512</memory>"
        };
        if whole && tag != "memory" {
            example.to_owned()
        } else if tag == "devices" || tag == "memroy" || Domain::info().takes_child(tag) {
            format!("<domain><name>a</name>{memory}{example}</domain>")
        } else {
            format!("<domain><name>a</name>{memory}<devices>{example}</devices></domain>")
        }
    }

    #[test]
    fn every_example_breaks_its_own_rule_and_no_other() {
        let mut wrong = Vec::new();
        for rule in Rule::ALL.iter().filter(|rule| !rule.example().is_empty()) {
            let source = Arc::new(Source::new("example", document(rule.example())));
            let read = crate::read(&source);
            let mut found: Vec<Rule> = read.problems.iter().map(|problem| problem.rule).collect();
            found.extend(
                crate::check(std::slice::from_ref(&read))
                    .iter()
                    .map(|(_, problem)| problem.rule),
            );
            if found.is_empty() || found.iter().any(|other| other != rule) {
                wrong.push(format!(
                    "{rule}: {found:?} {:?}",
                    read.problems.first().map(|p| &p.message)
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_are_words_with_hyphens_and_each_is_used_once() {
        let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        assert!(names.iter().all(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        }));
        assert!(Rule::ALL.iter().all(|rule| rule.meaning().ends_with('.')));
    }
}
