//! Features of libvirt's formats that few definitions use, by the pages that tell of them: each is read, and comes back as it was.

use super::{comes_back, guest};

/// A guest of another hypervisor, whose namespace has this address.
fn foreign(kind: &str, namespace: &str, os: &str, inside: &str) -> String {
    let uri = format!("http://libvirt.org/schemas/domain/{kind}/1.0");
    format!(
        "<domain type='{kind}' xmlns:{namespace}='{uri}'><name>a</name><memory>65536</memory><os><type>{os}</type></os>{inside}</domain>"
    )
}

fn devices(devices: &str) {
    comes_back(&guest(&format!("<devices>{devices}</devices>")));
}

#[test]
fn containers_share_namespaces_and_drop_capabilities() {
    comes_back(&foreign(
        "lxc",
        "lxc",
        "exe",
        "<features><privnet/><capabilities policy='deny'><mknod state='on'/><sys_chroot state='off'/></capabilities></features>\
         <devices><filesystem type='ram'><source usage='1024' units='KiB'/><target dir='/tmp'/></filesystem></devices>\
         <lxc:namespace><lxc:sharenet type='netns' value='red'/><lxc:shareipc type='pid' value='12345'/><lxc:shareuts type='name' value='b'/></lxc:namespace>",
    ));
}

#[test]
fn other_hypervisors_get_their_arguments() {
    comes_back(&foreign(
        "xen",
        "xen",
        "hvm",
        "<xen:commandline><xen:arg value='-name'/><xen:arg value=''/></xen:commandline>",
    ));
    comes_back(&foreign(
        "bhyve",
        "bhyve",
        "hvm",
        "<devices><disk type='ctl'><source dev='/dev/cam/ctl'/><target dev='sda' bus='scsi'/></disk><graphics type='vnc' port='5901' wait='yes'/></devices>\
         <bhyve:commandline><bhyve:arg value='-s'/><bhyve:env name='A' value='b'/></bhyve:commandline>",
    ));
    comes_back(&foreign(
        "vmware",
        "vmware",
        "hvm",
        "<devices><interface type='vds'><source switchid='aa bb cc dd ee ff 00 11-22 33 44 55 66 77 88 99' portid='32' portgroupid='dvportgroup-357' connectionid='2135926360'/></interface></devices>\
         <vmware:datacenterpath>one/two/centre</vmware:datacenterpath>",
    ));
    comes_back(&foreign(
        "vmware",
        "vmware",
        "hvm",
        "<devices><interface type='bridge'><source bridge='VM Network: second'/></interface></devices>",
    ));
}

#[test]
fn user_mode_linux_has_a_root() {
    comes_back(
        "<domain type='uml'><name>a</name><memory>65536</memory><os><type>uml</type><kernel>/k</kernel><root>/dev/ubda</root></os></domain>",
    );
}

#[test]
fn an_empty_drive_may_state_an_empty_path() {
    devices(
        "<disk type='file' device='floppy'><source file='' startupPolicy='optional'/><target dev='fda' bus='fdc'/></disk>",
    );
    devices(
        "<disk type='block' device='cdrom'><source dev=''/><target dev='hdc' bus='ide'/><readonly/></disk>",
    );
}

#[test]
fn a_display_whose_password_is_empty_lets_nobody_in_and_is_stated_so() {
    devices("<graphics type='vnc' passwd=''/>");
}

#[test]
fn options_of_ceph_may_be_empty() {
    comes_back(
        "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>a</name><source><host name='b'/><name>c</name></source>\
         <rbd:config_opts><rbd:option name='client_mount_timeout' value='45'/><rbd:option name='keyring' value=''/></rbd:config_opts></pool>",
    );
}

#[test]
fn sound_may_go_through_a_server_of_jack() {
    devices(
        "<audio id='1' type='jack'><input serverName='a' clientName='b' connectPorts='c' exactName='yes'/><output serverName='a'/></audio>",
    );
}

#[test]
fn images_may_be_luks_below_others() {
    devices(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a'/>\
         <backingStore type='file'><format type='luks'/><source file='/b'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>",
    );
}

#[test]
fn an_interface_may_be_a_usb_device() {
    devices(
        "<interface type='hostdev'><source><address type='usb' bus='0' device='2'/></source></interface>",
    );
    devices(
        "<interface type='hostdev'><source><vendor id='0x0a5c'/><product id='0xd11'/></source></interface>",
    );
}

#[test]
fn what_a_daemon_of_random_numbers_says_may_be_logged() {
    devices(
        "<rng model='virtio'><backend model='egd' type='tcp'><source mode='connect' host='1.2.3.4' service='1234'/><protocol type='raw'/>\
         <log file='/l' append='on'/></backend></rng>",
    );
}

#[test]
fn ports_of_a_switch_are_told_in_hexadecimal_too() {
    devices(
        "<interface type='direct'><source dev='eth0' mode='vepa'/><virtualport type='802.1Qbg'>\
         <parameters managerid='0x0b' typeid='0x123456' typeidversion='0x2' instanceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport></interface>",
    );
}

#[test]
fn guests_may_be_measured_and_signed_for() {
    comes_back(&guest(
        "<launchSecurity type='tdx'><policy>0x10000001</policy><mrConfigId>a</mrConfigId><mrOwner>b</mrOwner><mrOwnerConfig>c</mrOwnerConfig>\
         <quoteGenerationService path='/run/qgs.socket'/></launchSecurity>",
    ));
}

#[test]
fn disks_may_share_limits_and_measure_latency() {
    comes_back(&guest(
        "<throttlegroups><throttlegroup><group_name>a</group_name><total_bytes_sec>1048576</total_bytes_sec></throttlegroup></throttlegroups>\
         <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'><statistics><statistic interval='1'/>\
         <latency-histogram type='read'><bin start='0'/><bin start='1000'/></latency-histogram></statistics></driver>\
         <source file='/a'/><target dev='vda' bus='virtio'/><throttlefilters><throttlefilter group='a'/></throttlefilters></disk></devices>",
    ));
}

#[test]
fn devices_are_handed_over_through_iommufd_near_to_cells() {
    comes_back(&guest(
        "<cpu><numa><cell id='0' cpus='0' memory='65536'/></numa></cpu><iommufd enabled='yes' fdgroup='iommu'/><devices>\
         <hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio' iommufd='yes'/><source><address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/></source><acpi nodeset='0'/></hostdev></devices>",
    ));
}

#[test]
fn firmware_may_keep_its_variables_outside() {
    comes_back(
        "<domain type='kvm'><name>a</name><memory>65536</memory><os firmware='efi'><type>hvm</type><varstore template='/t.json' path='/v.json'/></os></domain>",
    );
    comes_back(
        "<domain type='kvm'><name>a</name><memory>65536</memory><os firmware='efi'><type>hvm</type><varstore/></os></domain>",
    );
}

#[test]
fn energy_is_measured_by_processors() {
    comes_back(&guest(
        "<vcpu>4</vcpu><cputune><energytune vcpus='0-3'><monitor vcpus='0-3'/></energytune></cputune>",
    ));
}

#[test]
fn hyperv_may_be_what_the_host_can_do() {
    comes_back(&guest(
        "<features><hyperv mode='host-model'><relaxed state='off'/></hyperv></features>",
    ));
}

#[test]
fn a_network_tells_of_the_guests_on_its_devices() {
    comes_back(
        "<network connections='3'><name>a</name><forward mode='hostdev' managed='yes'><driver name='vfio' model='mlx5_vfio_pci'/>\
         <address type='pci' domain='0x0000' bus='0x03' slot='0x10' function='0x1' connections='2'/></forward></network>",
    );
}

#[test]
fn names_may_be_asked_for_at_another_port() {
    comes_back(
        "<network><name>a</name><dns><forwarder domain='b.example' addr='192.0.2.1' port='5353'/></dns><ip address='10.0.0.1' prefix='24'/></network>",
    );
}

#[test]
fn bridges_and_networks_may_have_vlans() {
    let vlan = "<vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='47'/></vlan>";
    comes_back(&format!(
        "<network><name>a</name><forward mode='bridge'/><bridge name='br0'/>{vlan}</network>"
    ));
    devices(&format!(
        "<interface type='bridge'><source bridge='br0'/>{vlan}</interface>"
    ));
}

#[test]
fn a_rule_may_say_in_any_case_that_it_follows_no_connections() {
    comes_back(
        "<filter name='a'><rule action='accept' direction='out' statematch='FALSE'><tcp/></rule><rule action='accept' direction='in' statematch='1'/></filter>",
    );
}
