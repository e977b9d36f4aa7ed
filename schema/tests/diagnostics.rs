//! Every kind of complaint, as a person sees it: each case is a text and a golden in `snapshots/`.

use std::sync::Arc;
use vireo_schema::{Source, check, read};

fn complaints(file: &str, text: &str) -> String {
    let source = Arc::new(Source::new(file, text));
    let document = read(&source);
    let own = document
        .problems
        .iter()
        .map(|problem| problem.render(&source));
    let across = check(std::slice::from_ref(&document))
        .into_iter()
        .map(|(source, problem)| problem.render(&source));
    let all: Vec<String> = own.chain(across).collect();
    if all.is_empty() {
        "nothing is wrong\n".into()
    } else {
        all.join("\n") + "\n"
    }
}

/// One test a case, so that a change shows each golden that it touches.
macro_rules! cases {
    ($($name:ident, $file:literal: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            let text: String = String::from($text);
            insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
                insta::assert_snapshot!(stringify!($name), complaints($file, &text));
            });
        }
    )*};
}

cases! {
    xml_closed_in_the_wrong_order, "a.xml": "<network>\n  <name>a</name>\n  <bridge><ip></bridge></ip>\n</network>\n";
    xml_never_closed, "a.xml": "<network>\n  <name>a</name>\n";
    xml_with_an_unknown_entity, "a.xml": "<network>\n  <name>a&nbsp;b</name>\n</network>\n";
    xml_with_a_bare_ampersand, "a.xml": "<network>\n  <name>a & b</name>\n</network>\n";
    xml_with_a_document_type, "a.xml": "<!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;'>]>\n<network><name>&lol2;</name></network>\n";
    xml_nested_too_deep, "a.xml": "<a>".repeat(100);
    xml_with_an_attribute_twice, "a.xml": "<pool type='dir' type='fs'><name>a</name></pool>";
    xml_with_an_undeclared_prefix, "a.xml": "<domain><name>a</name><qemu:commandline/></domain>";
    xml_with_what_is_no_name, "a.xml": "<network>\n  <name>a</name>\n  <metadata><a:b=\"c\" xmlns:a='urn:a'/></metadata>\n</network>\n";
    xml_that_is_no_definition, "a.xml": "<netwrok><name>a</name></netwrok>";
    xml_with_two_roots, "a.xml": "<network><name>a</name></network>\n<network><name>b</name></network>";
    an_empty_file, "a.xml": "";
    unknown_element, "a.xml": "<domain>\n  <name>a</name>\n  <memroy unit='MiB'>512</memroy>\n</domain>\n";
    unknown_attribute, "a.xml": "<network>\n  <name>a</name>\n  <bridge nmae='virbr0'/>\n</network>\n";
    an_element_where_an_attribute_belongs, "a.xml": "<network>\n  <name>a</name>\n  <bridge><name>virbr0</name></bridge>\n</network>\n";
    an_attribute_where_an_element_belongs, "a.xml": "<network name='a'/>\n";
    several_problems_of_one_file, "a.xml": "<domain typ='kvm'>\n  <name></name>\n  <vcpu>two</vcpu>\n  <devices>\n    <disk type='fiel' device='disk'/>\n  </devices>\n</domain>\n";
    bad_unit, "a.xml": "<domain>\n  <name>a</name>\n  <memory unit='MiBB'>512</memory>\n</domain>\n";
    bad_mac, "a.xml": "<domain>\n  <name>a</name>\n  <devices>\n    <interface type='network'>\n      <mac address='52:54:00:12:34'/>\n    </interface>\n  </devices>\n</domain>\n";
    bad_word_with_a_guess, "a.xml": "<network>\n  <name>a</name>\n  <forward mode='ruote'/>\n</network>\n";
    bad_number, "a.xml": "<domain>\n  <name>a</name>\n  <vcpu>99999999999</vcpu>\n</domain>\n";
    bad_address, "a.xml": "<network>\n  <name>a</name>\n  <ip address='192.168.122.300' netmask='255.255.255.0'/>\n</network>\n";
    bad_cpuset, "a.xml": "<domain>\n  <name>a</name>\n  <vcpu cpuset='3-1'>2</vcpu>\n</domain>\n";
    bad_name, "a.xml": "<domain>\n  <name>../a</name>\n</domain>\n";
    missing_name, "a.xml": "<network>\n  <bridge name='virbr0'/>\n</network>\n";
    an_element_stated_twice, "a.xml": "<network>\n  <name>a</name>\n  <bridge name='virbr0'/>\n  <bridge name='virbr1'/>\n</network>\n";
    text_where_none_belongs, "a.xml": "<network>\n  <name>a</name>\n  hello\n</network>\n";
    the_pool_type_that_people_expect, "a.xml": "<pool type=\"nfs\">\n<name>nfspool</name>\n</pool>\n";
    a_bad_filter_rule, "a.xml": "<filter name='a'>\n  <rule action='drp' direction='inout'>\n    <tcp dstportstart='70000' srcipmask='33' flags='SYN'/>\n  </rule>\n</filter>\n";
    a_bad_policy, "a.xml": "<domain><name>a</name><metadata>\n<vireo:policy xmlns:vireo='urn:vireo:policy:1' state='runing' depends-on='default'/>\n</metadata></domain>";
    yaml_with_tabs, "a.yaml": "domain: a\ncputune:\n\tshares: 2048\n";
    yaml_with_a_key_twice, "a.yaml": "domain: a\nmemory: 1 GiB\nmemory: 2 GiB\n";
    yaml_never_closed, "a.yaml": "domain: a\ninterfaces: [{network: default\n";
    yaml_with_aliases_that_explode, "a.yaml": {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            text.push_str(&format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(10)));
        }
        text
    };
    yaml_nested_too_deep, "a.yaml": "[".repeat(200);
    yaml_that_merges_what_has_no_keys, "a.yaml": "domain: a\n<<: [{memory: 1 GiB}, small]\n";
    yaml_that_merges_twice, "a.yaml": "domain: a\n<<: {memory: 1 GiB}\n<<: {vcpu: 2}\n";
    yaml_with_a_merged_mistake, "a.yaml": "- domain: a\n  <<: &small\n    memory: 1 GiB\n    vcpus: two\n- domain: b\n  <<: *small\n";
    one_bridge_twice_through_an_alias, "a.yaml": "- network: a\n  bridge: &bridge virbr7\n- network: b\n  bridge: *bridge\n- network: c\n  <<: &more {bridge: {name: virbr8}}\n- network: d\n  <<: *more\n";
    yaml_with_a_list_beside_its_kind, "a.yaml": "secret: [22e1353d-c27e-4d6d-bf15-465053e6ba0b]\nprivate: yes\n";
    yaml_with_a_list_in_a_list_of_words, "a.yaml": "nwfilter: a\nrule:\n- action: accept\n  direction: in\n  tcp: {state: [[NEW], ESTABLISHED]}\n";
    yaml_with_a_tag, "a.yaml": "domain: a\nmemory: !size 1 GiB\n";
    yaml_that_says_no_kind, "a.yaml": "name: a\nmemory: 1 GiB\n";
    yaml_with_an_unknown_key, "a.yaml": "domain: a\nmemroy: 1 GiB\n";
    yaml_with_an_unknown_key_deep_inside, "a.yaml": "domain: a\ninterfaces:\n- network: default\n  filer: clean-traffic\n";
    yaml_with_a_mapping_for_a_value, "a.yaml": "domain: a\non_crash: {action: restart}\n";
    yaml_with_a_value_for_a_mapping, "a.yaml": "domain: a\ncputune: 2048\n";
    yaml_with_nothing_for_a_value, "a.yaml": "domain: a\nuuid:\n";
    yaml_that_says_two_things_at_once, "a.yaml": "domain: a\ndisks:\n- file: /a.qcow2\n  type: block\n";
    yaml_with_a_bad_unit, "a.yaml": "domain: a\nmemory: 512 MiBB\n";
    no_memory, "a.xml": "<domain>\n  <name>a</name>\n</domain>\n";
    two_disks_with_one_name, "a.yaml": "domain: a\nmemory: 1 GiB\ndisks:\n- {file: /a, dev: vda}\n- {file: /b, dev: vda}\n";
    a_disk_without_a_name_in_the_guest, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <source file='/a'/>\n    </disk>\n    <disk type='file' device='cdrom'>\n      <target bus='sata'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_disk_without_its_source, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <source dev='/dev/sdb'/>\n      <target dev='vda'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_topology_that_does_not_fit, "a.yaml": "domain: a\nmemory: 1 GiB\nvcpu: 4\ncpu:\n  topology: {sockets: 1, cores: 3, threads: 1}\n";
    a_place_taken_twice, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='user'>\n      <address type='pci' domain='0' bus='0' slot='3' function='0'/>\n    </interface>\n    <interface type='user'>\n      <address type='pci' bus='0x00' slot='0x03' function='0x0'/>\n    </interface>\n  </devices>\n</domain>\n";
    an_interface_without_its_network, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='network'>\n      <model type='virtio'/>\n    </interface>\n  </devices>\n</domain>\n";
    a_mac_of_a_group, "a.yaml": "domain: a\nmemory: 1 GiB\ninterfaces:\n- network: default\n  mac: 53:54:00:12:34:56\n";
    more_processors_now_than_ever, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <vcpu current='8'>4</vcpu>\n</domain>\n";
    a_range_that_ends_before_it_begins, "a.yaml": "network: a\nips:\n- address: 192.168.122.1\n  prefix: 24\n  dhcp:\n    ranges: {start: 192.168.122.254, end: 192.168.122.2}\n";
    an_empty_drive_that_cannot_be, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='cdrom'>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_guest_that_restarts_when_it_is_switched_off, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <on_poweroff>restart</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n</domain>\n";
    a_range_outside_of_its_network, "a.yaml": "network: a\nips:\n- address: 192.168.122.1\n  prefix: 24\n  dhcp:\n    ranges: {start: 192.168.123.2, end: 192.168.123.254}\n";
    a_bridge_name_that_is_too_long, "a.yaml": "network: a\nbridge: a-very-long-bridge-name\n";
    a_pool_without_its_target, "a.yaml": "pool: a\ntype: dir\n";
    a_volume_without_its_capacity, "a.yaml": "volume: images/a\n";
    a_network_that_reaches_outside_without_an_address, "a.xml": "<network>\n  <name>a</name>\n  <forward mode='nat'/>\n</network>\n";
    a_network_whose_devices_are_told_in_two_ways, "a.xml": "<network>\n  <name>a</name>\n  <forward mode='hostdev' dev='eth0'>\n    <pf dev='eth1'/>\n  </forward>\n  <bridge name='br0'/>\n</network>\n";
    a_range_with_the_address_for_all, "a.yaml": "network: a\nips:\n- address: 192.168.122.1\n  prefix: 24\n  dhcp:\n    ranges: {start: 192.168.122.2, end: 192.168.122.255, lease: {expiry: 60, unit: seconds}}\n";
    a_route_whose_gateway_nobody_reaches, "a.xml": "<network>\n  <name>a</name>\n  <ip address='10.0.0.1' prefix='24'/>\n  <route address='10.9.0.7' prefix='16' gateway='10.8.0.1'/>\n</network>\n";
    records_that_dns_does_not_take, "a.xml": "<network>\n  <name>a</name>\n  <dns>\n    <txt name='two words' value='x'/>\n    <srv service='ldap' protocol='tcp' port='389'/>\n    <host ip='10.0.0.1'/>\n  </dns>\n</network>\n";
    ports_without_a_protocol, "a.xml": "<filter name='a'>\n  <rule action='accept' direction='in'>\n    <ip protocol='icmp' dstportstart='80'/>\n    <mac srcmacmask='ff:00:ff:00:00:00'/>\n  </rule>\n</filter>\n";
    a_chain_of_no_known_kind, "a.xml": "<filter name='a' chain='web-ipv4'/>\n";
    a_pool_whose_format_is_unknown, "a.xml": "<pool type='netfs'>\n  <name>a</name>\n  <source>\n    <host name='h'/>\n    <dir path='/a'/>\n    <format type='nfs4'/>\n  </source>\n  <target>\n    <path>/a</path>\n    <permissions>\n      <mode>01777</mode>\n    </permissions>\n  </target>\n</pool>\n";
    an_adapter_without_its_names, "a.xml": "<pool type='scsi'>\n  <name>a</name>\n  <source>\n    <adapter type='fc_host' wwnn='2000'/>\n  </source>\n  <target><path>/dev/disk/by-path</path></target>\n</pool>\n";
    uefi_without_acpi, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os firmware='efi'>\n    <type arch='x86_64' machine='pc'>hvm</type>\n    <loader secure='yes'/>\n  </os>\n</domain>\n";
    features_of_other_machines, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os>\n    <type arch='x86_64' machine='pc'>hvm</type>\n  </os>\n  <features>\n    <gic version='3'/>\n    <smm state='on'>\n      <tseg unit='MiB'>48</tseg>\n    </smm>\n    <tcg>\n      <tb-cache unit='MiB'>128</tb-cache>\n    </tcg>\n    <hyperv>\n      <spinlocks state='on' retries='100'/>\n    </hyperv>\n  </features>\n</domain>\n";
    huge_pages_of_anonymous_memory, "a.yaml": "domain: a\nmemory: 1 GiB\nmemoryBacking:\n  hugepages: {}\n  source: anonymous\n";
    threads_in_real_time_without_a_priority, "a.yaml": "domain: a\nmemory: 1 GiB\nvcpu: 2\ncputune:\n  vcpuscheds:\n  - {vcpus: 0-1, scheduler: fifo}\n  - {vcpus: 1-2, scheduler: batch}\n";
    cells_with_processors_that_are_not_there, "a.xml": "<domain>\n  <name>a</name>\n  <vcpu>2</vcpu>\n  <cpu>\n    <numa>\n      <cell id='0' cpus='0-1' memory='512' unit='MiB'>\n        <distances>\n          <sibling id='0' value='20'/>\n          <sibling id='5' value='21'/>\n        </distances>\n      </cell>\n      <cell id='1' cpus='2-3' memory='512' unit='MiB'/>\n    </numa>\n  </cpu>\n</domain>\n";
    memory_that_lies_nowhere, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <numatune>\n    <memory mode='strict'/>\n  </numatune>\n</domain>\n";
    a_module_without_a_slot, "a.xml": "<domain>\n  <name>a</name>\n  <memory unit='GiB'>1</memory>\n  <cpu>\n    <numa>\n      <cell id='0' cpus='0' memory='1' unit='GiB'/>\n    </numa>\n  </cpu>\n  <devices>\n    <memory model='dimm'>\n      <target>\n        <size unit='MiB'>512</size>\n        <node>0</node>\n      </target>\n    </memory>\n  </devices>\n</domain>\n";
    labels_that_do_not_go_together, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <seclabel type='static' model='dac' relabel='yes'/>\n  <seclabel type='dynamic' model='selinux' relabel='no'/>\n  <seclabel type='none'/>\n</domain>\n";
    a_first_processor_that_is_off, "a.yaml": "domain: a\nmemory: 1 GiB\nvcpu: 2\nvcpus:\n- {id: 0, enabled: no}\n- {id: 1, enabled: yes}\n";
    timers_that_do_otherwise, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <clock offset='timezone'>\n    <timer name='rtc' tickpolicy='merge'/>\n    <timer name='platform'/>\n  </clock>\n</domain>\n";
    features_of_no_model, "a.yaml": "domain: a\nmemory: 1 GiB\ncpu:\n  features:\n  - {name: aes, policy: require}\n";
    a_topology_without_threads, "a.yaml": "domain: a\nmemory: 1 GiB\nvcpu: 4\ncpu:\n  topology: {sockets: 1, cores: 4}\n";
    a_title_of_two_lines, "a.xml": "<domain>\n  <name>a</name>\n  <title>one\ntwo</title>\n  <memory>1024</memory>\n</domain>\n";
    a_reference_to_nothing, "a.yaml": "network: default\n---\ndomain: a\nmemory: 1 GiB\ninterfaces: {network: defualt}\n";
    a_snapshot_whose_memory_has_no_file, "a.yaml": "domainsnapshot: before\nmemory: external\n";
    a_snapshot_of_a_disk_that_is_left_out_and_has_an_image, "a.xml": "<domainsnapshot>\n  <disks>\n    <disk name='vda' snapshot='no'><source file='/a'/></disk>\n    <disk name='vda'/>\n  </disks>\n</domainsnapshot>\n";
    a_snapshot_with_a_policy, "a.yaml": "domainsnapshot: before\npolicy: {protect: yes}\n";
    a_checkpoint_of_a_disk_that_is_left_out_and_has_a_bitmap, "a.xml": "<domaincheckpoint>\n  <name>.monday</name>\n  <disks>\n    <disk name='vda' checkpoint='no' bitmap='monday'/>\n    <disk name='vda'/>\n  </disks>\n</domaincheckpoint>\n";
    a_port_whose_plug_does_not_fit, "a.xml": "<networkport>\n  <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>\n  <owner><name>web</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\n  <mac address='52:54:00:7b:35:93'/>\n  <plug type='direct' bridge='virbr0' dev='eth0'/>\n</networkport>\n";
    a_binding_without_its_filter, "a.yaml": "nwfilterbinding: vnet0\nowner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}\nmac: 52:54:00:7b:35:93\n";
    records_among_definitions, "a.yaml": "network: a\n---\ndomainsnapshot: before\n---\nnwfilterbinding: vnet0\nowner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}\nmac: 52:54:00:7b:35:93\nfilterref: clean-traffic\n---\nnetworkport: 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d\nowner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}\nmac: 52:54:00:7b:35:93\n";
    one_mac_in_two_guests, "a.yaml": "- domain: a\n  memory: 1 GiB\n  interfaces: [{network: n, mac: 52:54:00:00:00:07}]\n- domain: b\n  memory: 1 GiB\n  interfaces: [{network: n, mac: 52:54:00:00:00:07}]\n- network: n\n";
    one_mac_twice_in_a_guest, "a.yaml": "domain: a\nmemory: 1 GiB\ninterfaces:\n- {bridge: br0, mac: 52:54:00:00:00:07}\n- {bridge: br0, mac: 52:54:00:00:00:07}\n";
    networks_that_overlap, "a.yaml": "- network: lan\n  ip: {address: 10.7.0.1, prefix: 16}\n- network: dmz\n  ip: {address: 10.7.9.1, netmask: 255.255.255.0}\n";
    filters_that_lead_back_to_themselves, "a.yaml": "- nwfilter: a\n  filterref: b\n- nwfilter: b\n  filterref: c\n- nwfilter: c\n  filterref: a\n";
    a_disk_with_a_partitions_name, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <source file='/a'/>\n      <target dev='vda1' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    queues_on_a_disk_without, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <driver name='qemu' type='raw' queues='4'/>\n      <source file='/a'/>\n      <target dev='sda' bus='sata'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_disk_that_is_read_only_on_sata, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <source file='/a'/>\n      <target dev='sda' bus='sata'/>\n      <readonly/>\n    </disk>\n  </devices>\n</domain>\n";
    native_io_through_the_hosts_cache, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='block' device='disk'>\n      <driver name='qemu' type='raw' io='native'/>\n      <source dev='/dev/sdb'/>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_thread_that_is_not_there, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <iothreads>2</iothreads>\n  <devices>\n    <disk type='file' device='disk'>\n      <driver name='qemu' type='raw' iothread='3'/>\n      <source file='/a'/>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    an_image_that_two_guests_write, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n      <source file='/a'/>\n      <target dev='vda' bus='virtio'/>\n      <shareable/>\n    </disk>\n  </devices>\n</domain>\n";
    an_image_below_without_a_format, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='file' device='disk'>\n      <source file='/a'/>\n      <backingStore type='file'>\n        <source file='/b'/>\n      </backingStore>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_server_without_a_name, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <disk type='network' device='disk'>\n      <source protocol='rbd' name='pool/image'>\n        <host port='6789'/>\n        <auth username='me'/>\n      </source>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n";
    an_ide_controller_on_q35, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <controller type='ide' index='0'/>\n  </devices>\n</domain>\n";
    a_root_port_on_a_root_port, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <controller type='pci' index='1' model='pcie-root-port'/>\n    <controller type='pci' index='2' model='pcie-root-port'>\n      <address type='pci' domain='0' bus='1' slot='0' function='0'/>\n    </controller>\n  </devices>\n</domain>\n";
    a_slot_that_a_port_does_not_have, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <controller type='pci' index='1' model='pcie-root-port'/>\n    <interface type='user'>\n      <address type='pci' domain='0' bus='1' slot='3' function='0'/>\n    </interface>\n  </devices>\n</domain>\n";
    ports_that_no_passt_forwards, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='user'>\n      <portForward proto='tcp'><range start='22'/></portForward>\n    </interface>\n  </devices>\n</domain>\n";
    a_rate_without_an_average, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='bridge'>\n      <source bridge='br0'/>\n      <bandwidth><inbound peak='1000'/></bandwidth>\n    </interface>\n  </devices>\n</domain>\n";
    several_tags_off_a_trunk, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='bridge'>\n      <source bridge='br0'/>\n      <virtualport type='openvswitch'/>\n      <vlan trunk='no'><tag id='42'/><tag id='47'/></vlan>\n    </interface>\n  </devices>\n</domain>\n";
    a_device_handed_over_twice, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source><address domain='0' bus='6' slot='2' function='0'/></source>\n    </hostdev>\n    <interface type='hostdev' managed='yes'>\n      <source><address type='pci' domain='0' bus='6' slot='2' function='0'/></source>\n    </interface>\n  </devices>\n</domain>\n";
    a_password_that_vnc_cuts, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <graphics type='vnc' port='-1' passwd='correct horse'/>\n  </devices>\n</domain>\n";
    two_cards_that_can_only_be_the_first, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <video><model type='vga' heads='1'/></video>\n    <video><model type='cirrus'/></video>\n  </devices>\n</domain>\n";
    a_tablet_on_ps2, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <input type='tablet' bus='ps2'/>\n  </devices>\n</domain>\n";
    a_folder_whose_server_does_not_see_the_memory, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <filesystem type='mount'>\n      <driver type='virtiofs'/>\n      <source dir='/srv'/>\n      <target dir='srv'/>\n    </filesystem>\n  </devices>\n</domain>\n";
    two_aliases_of_one_name, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='user'>\n      <alias name='ua-net'/>\n    </interface>\n    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n      <alias name='ua-net'/>\n    </rng>\n  </devices>\n</domain>\n";
    a_sound_card_without_its_audio, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <sound model='ich9'>\n      <audio id='2'/>\n    </sound>\n    <audio id='1' type='none'/>\n  </devices>\n</domain>\n";
    a_device_in_the_place_of_the_machines_own, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <controller type='sata' index='0'>\n      <address type='pci' bus='0' slot='4' function='0'/>\n    </controller>\n    <interface type='user'>\n      <address type='pci' bus='0' slot='0x1f' function='3'/>\n    </interface>\n  </devices>\n</domain>\n";
    a_register_taken_twice, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type arch='ppc64' machine='pseries'>hvm</type></os>\n  <devices>\n    <controller type='scsi' index='0'>\n      <address type='spapr-vio' reg='0x2000'/>\n    </controller>\n    <serial type='pty'>\n      <target type='spapr-vio-serial'/>\n      <address type='spapr-vio' reg='0x2000'/>\n    </serial>\n    <console type='pty'>\n      <target type='serial' port='0'/>\n      <address type='spapr-vio' reg='0x2000'/>\n    </console>\n  </devices>\n</domain>\n";
    numbers_of_pci_functions_on_a_pc, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type arch='x86_64'>hvm</type></os>\n  <devices>\n    <interface type='user'>\n      <address type='pci' slot='3'><zpci uid='1' fid='2'/></address>\n    </interface>\n  </devices>\n</domain>\n";
    a_number_of_pci_functions_taken_twice, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type></os>\n  <devices>\n    <interface type='user'>\n      <address type='pci'><zpci uid='1' fid='2'/></address>\n    </interface>\n    <interface type='user'>\n      <address type='pci'><zpci uid='0x1' fid='3'/></address>\n    </interface>\n  </devices>\n</domain>\n";
    an_iommu_of_virtio_without_acpi, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <iommu model='virtio'>\n      <address type='pci' bus='1' slot='0'/>\n    </iommu>\n  </devices>\n</domain>\n";
    shared_memory_of_a_size_that_is_none, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <shmem name='a'>\n      <model type='ivshmem-plain'/>\n      <size unit='KiB'>512</size>\n      <address type='usb' bus='0' port='1'/>\n    </shmem>\n  </devices>\n</domain>\n";
    old_drives_on_a_new_machine, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type arch='ppc64' machine='pseries'>hvm</type></os>\n  <devices>\n    <disk type='file' device='disk'>\n      <source file='/a'/>\n      <target dev='hda' bus='ide'/>\n    </disk>\n    <disk type='file' device='floppy'>\n      <source file='/b'/>\n      <target dev='fda' bus='fdc'/>\n    </disk>\n  </devices>\n</domain>\n";
    a_tpm_of_another_machine, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type arch='aarch64' machine='virt'>hvm</type></os>\n  <devices>\n    <tpm model='tpm-crb'>\n      <backend type='emulator'/>\n    </tpm>\n  </devices>\n</domain>\n";
    processors_that_no_interrupt_reaches, "a.yaml": "domain: a\nmemory: 1 GiB\nmachine: q35\nvcpu: 288\n";
    firmware_that_speaks_on_no_port, "a.yaml": "domain: a\nmemory: 1 GiB\nos: {bios: {useserial: yes}}\n";
    a_bus_in_a_cell_that_is_not_there, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type machine='q35'>hvm</type></os>\n  <devices>\n    <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='254'>\n        <node>1</node>\n      </target>\n    </controller>\n  </devices>\n</domain>\n";
    fixed_addresses_of_nobody, "a.xml": "<network>\n  <name>a</name>\n  <ip address='10.0.0.1' prefix='24'>\n    <dhcp>\n      <host id='0:1' ip='10.0.0.2'/>\n      <host mac='52:54:00:00:00:01' name='9to5' ip='10.0.0.3'/>\n    </dhcp>\n  </ip>\n</network>\n";
    two_secrets_for_one_use, "a.yaml": "- secret: 86891d0f-b6bb-49f8-a013-bae443c08d82\n  usage: {type: ceph, name: a}\n- secret: 7405cb72-e384-54a1-a31a-e4638dc373a7\n  usage: {type: ceph, name: a}\n";
    a_secret_that_says_the_use_of_another, "a.xml": "<secret>\n  <usage type='ceph'>\n    <name>a</name>\n    <volume>/a</volume>\n  </usage>\n</secret>\n";
    the_memory_of_a_guest_that_was_off, "a.xml": "<domainsnapshot>\n  <state>shutoff</state>\n  <memory snapshot='internal'/>\n</domainsnapshot>\n";
    a_port_whose_rate_has_no_average, "a.xml": "<networkport>\n  <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>\n  <owner><name>web</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\n  <mac address='52:54:00:7b:35:93'/>\n  <bandwidth><outbound peak='10'/></bandwidth>\n  <vlan/>\n</networkport>\n";
    a_route_inside_of_a_container, "a.xml": "<domain type='lxc'>\n  <name>a</name>\n  <memory>1024</memory>\n  <os><type>exe</type></os>\n  <devices>\n    <interface type='ethernet'>\n      <route address='10.9.0.7' prefix='16' gateway='10.8.0.1' metric='0'/>\n      <route address='fd00::' prefix='64' gateway='10.8.0.1'/>\n    </interface>\n  </devices>\n</domain>\n";
    elements_with_nothing_in_them_that_say_nothing, "a.xml": "<domain>\n  <name>a</name>\n  <uuid/>\n  <title/>\n  <memory>1024</memory>\n  <iothreads></iothreads>\n  <on_crash/>\n  <seclabel type='dynamic' model='dac'><label/><baselabel></baselabel></seclabel>\n</domain>\n";
    an_element_with_nothing_in_it_that_must_say_something, "a.xml": "<volume>\n  <name>a</name>\n  <capacity>1</capacity>\n  <backingStore>\n    <path/>\n  </backingStore>\n</volume>\n";
    an_address_that_says_what_another_has, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <interface type='user'>\n      <address type='pci' bus='0' slot='3' unit='1'/>\n    </interface>\n  </devices>\n</domain>\n";
    a_console_of_a_kind_that_is_a_port, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <console type='pty'>\n      <target type='usb-serial'/>\n    </console>\n  </devices>\n</domain>\n";
    compression_of_another_channel, "a.xml": "<domain>\n  <name>a</name>\n  <memory>1024</memory>\n  <devices>\n    <graphics type='spice'>\n      <image compression='always'/>\n      <playback compression='auto'/>\n    </graphics>\n  </devices>\n</domain>\n";
    one_name_twice, "a.yaml": "network: a\n---\nnetwork: a\n";
    one_uuid_twice, "a.yaml": "network: a\nuuid: 86891d0f-b6bb-49f8-a013-bae443c08d82\n---\nnetwork: b\nuuid: 86891d0f-b6bb-49f8-a013-bae443c08d82\n";
    a_number_with_white_space_behind_it, "a.xml": "<domain>\n  <name>a</name>\n  <memory>\n    524288\n  </memory>\n  <vcpu current='1 '> 2</vcpu>\n  <on_crash> destroy </on_crash>\n</domain>\n";
    a_disk_that_its_name_puts_where_another_is, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <disk type='file'><source file='/a'/><target dev='sda' bus='sata'/></disk>\n    <disk type='file'><source file='/b'/><target dev='sdb' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='2'/></disk>\n    <disk type='file'><source file='/c'/><target dev='sdc' bus='sata'/></disk>\n    <disk type='file'><source file='/d'/><target dev='sdd' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>\n  </devices>\n</domain>\n";
    drives_of_controllers_that_the_machine_does_not_have, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='pc'>hvm</type>\n  </os>\n  <devices>\n    <disk type='file'><source file='/a'/><target dev='hde' bus='ide'/></disk>\n    <disk type='file' device='floppy'><source file='/b'/><target dev='fdc' bus='fdc'/></disk>\n  </devices>\n</domain>\n";
    a_slot_of_a_port_that_nothing_states, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <interface type='user'><address type='pci' bus='1' slot='3'/></interface>\n    <interface type='user'><address type='pci' bus='2' slot='0'/></interface>\n  </devices>\n</domain>\n";
    a_slot_of_a_bridge_that_nothing_states, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='pc'>hvm</type>\n  </os>\n  <devices>\n    <interface type='user'><address type='pci' bus='1' slot='0' function='1'/></interface>\n    <interface type='user'><address type='pci' bus='1' slot='1'/></interface>\n  </devices>\n</domain>\n";
    a_slot_of_a_bridge_that_has_no_number, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <controller type='pci' model='pcie-to-pci-bridge'/>\n    <interface type='user'><address type='pci' bus='1' slot='3'/></interface>\n  </devices>\n</domain>\n";
    a_port_with_the_number_that_another_is_given, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <controller type='pci' index='1' model='pcie-root-port'><target chassis='2'/></controller>\n    <controller type='pci' index='2' model='pcie-root-port'/>\n    <controller type='pci' index='3' model='pcie-expander-bus'><target busNr='200'/></controller>\n    <controller type='pci' index='4' model='pcie-expander-bus'><target busNr='200'/></controller>\n  </devices>\n</domain>\n";
    two_channels_of_one_name, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\n    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\n    <channel type='spicevmc'><target type='virtio'/></channel>\n    <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>\n  </devices>\n</domain>\n";
    two_panic_devices_of_the_usual_model, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <panic/>\n    <panic model='pvpanic'/>\n    <panic model='isa'/>\n    <panic/>\n  </devices>\n</domain>\n";
    two_modules_of_memory_in_one_slot, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <maxMemory slots='4' unit='GiB'>4</maxMemory>\n  <cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB'/></numa></cpu>\n  <devices>\n    <memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target><address type='dimm' slot='1'/></memory>\n    <memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target><address type='dimm' slot='1'/></memory>\n  </devices>\n</domain>\n";
    displays_at_ports_that_there_are_not_or_that_are_taken, "a.xml": "<domain type='kvm'>\n  <name>a</name>\n  <memory unit='MiB'>512</memory>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n    <graphics type='vnc' port='5901' autoport='no' websocket='5901'/>\n    <graphics type='spice' port='5901' tlsPort='70000' autoport='no' listen='0.0.0.0'/>\n  </devices>\n</domain>\n";
    displays_of_two_guests_at_one_port, "a.yaml": "domain: a\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901}\n---\ndomain: b\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901, listen: 0.0.0.0}\n";
    displays_that_are_apart, "a.yaml": "domain: a\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901}\n---\ndomain: b\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901, listen: 192.0.2.1}\n---\ndomain: c\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901, autoport: yes}\n---\ndomain: d\nmemory: 1 GiB\ngraphics: {type: vnc, port: 5901}\npolicy: {state: stopped}\n---\ndomain: e\nmemory: 1 GiB\ngraphics: {type: vnc, port: -1}\n";
    two_guests_with_one_tap, "a.yaml": "domain: a\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: tap7}\n---\ndomain: b\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: tap7}\n";
    taps_that_are_apart_or_that_libvirt_names, "a.yaml": "domain: a\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: tap7}\n---\ndomain: b\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: tap7}\npolicy: {state: stopped}\n---\ndomain: c\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: vnet0}\n---\ndomain: d\nmemory: 1 GiB\ninterfaces: {bridge: br0, target: vnet0}\n";
}
