//! What was written is written again as it was: looks of values, what belongs to other applications, arguments handed on, and features that are rare ([`features`]).

mod features;

use std::sync::Arc;
use vireo_schema::{Source, read, to_xml, to_yaml, tree, xml};

fn tree(text: &str) -> tree::Element<'static> {
    xml::read(text, 0)
        .unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
        .to_owned()
}

/// The document as it comes back: through XML, and through YAML.
fn back(text: &str) -> [String; 2] {
    let whole = |file: &str, text: &str| {
        let source = Arc::new(Source::new(file, text));
        let document = read(&source);
        let shown: Vec<String> = document
            .problems
            .iter()
            .map(|problem| problem.render(&source))
            .collect();
        assert!(shown.is_empty(), "{text}\n{}", shown.join("\n"));
        document
            .definitions
            .into_iter()
            .next()
            .expect("a document without problems has a definition")
    };
    let read = whole("a.xml", text);
    let yaml = to_yaml(&read.definition, &read.policy);
    let again = whole("a.yaml", &yaml);
    [
        to_xml(&read.definition, &read.policy),
        to_xml(&again.definition, &again.policy),
    ]
}

fn comes_back(text: &str) {
    for written in back(text) {
        assert_eq!(tree(&written), tree(text), "{text}\n{written}");
    }
}

fn guest(inside: &str) -> String {
    format!(
        "<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os>{inside}</domain>"
    )
}

#[test]
fn values_keep_the_looks_they_were_given() {
    comes_back(&guest(
        "<uuid>0F0806AB531D61345DEFC5B4955292AA</uuid><vcpu cpuset='0-1,^1,4'>02</vcpu>",
    ));
    comes_back(&guest(
        "<devices><interface type='network'><mac address='52:54:00:AB:0C:01'/><source network='n'/>\
         <address type='pci' domain='0x0' bus='0X01' slot='0x1F' function='07'/></interface></devices>",
    ));
    comes_back(&guest(
        "<currentMemory unit='k'>0032768</currentMemory><clock offset='variable' adjustment='+01'/>",
    ));
    comes_back(
        "<network><name>a</name><mac address='52:54:0:AB:C:1'/><ip family='ipv6' address='2001:DB8:0:0::1' prefix='064'/></network>",
    );
    comes_back(
        "<filter name='a'><rule action='drop' direction='in' statematch='False' priority='0500'><tcp state='new,Established' srcportstart='0X0050'/></rule></filter>",
    );
    comes_back(
        "<volume><name>a</name><capacity unit='g'>010</capacity><target><permissions><mode>00644</mode><owner>0744</owner></permissions></target></volume>",
    );
}

#[test]
fn numbers_keep_their_base_sign_and_zeros() {
    let devices = |inside: &str| guest(&format!("<devices>{inside}</devices>"));
    comes_back(&devices(
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x10000' bus='+3' slot='010' function='00'/></source></hostdev>",
    ));
    comes_back(&devices(
        "<serial type='pty'><target port='0'/><address type='isa' iobase='3F8' irq='0x4'/></serial>",
    ));
    comes_back(&guest(
        "<uuid>0f08-06ab 531d61345defc5b4955292aa</uuid><vcpu cpuset=' 0 - 3,^2, '>+2</vcpu><currentMemory>+32768</currentMemory>",
    ));
}

#[test]
fn an_attribute_with_nothing_in_it_is_as_good_as_none_where_libvirt_looks_for_a_text() {
    for text in [
        "<network><name>a</name><forward mode='' dev=''/><bridge name='' zone='' stp='' delay='' macTableManager=''/><mac address=''/><domain name=''/><ip address='10.0.0.1' prefix='24'/></network>",
        "<pool type='fs'><name>a</name><source><device path='/dev/sda1'/><format type=''/></source><target><path>/a</path></target></pool>",
        "<volume><name>a</name><capacity unit=''>1</capacity><target><format type=''/></target></volume>",
        "<domainsnapshot><name></name></domainsnapshot>",
        "<domaincheckpoint><name></name></domaincheckpoint>",
    ] {
        comes_back(text);
    }
    comes_back(&guest(
        "<devices><interface type='ethernet'><link state=''/><mtu size=''/><script path=''/><downscript path=''/></interface></devices>",
    ));
}

#[test]
fn a_bridge_whose_stp_is_yes_spans_a_tree_and_one_whose_stp_is_no_is_refused() {
    let text = |word: &str| format!("<network><name>a</name><bridge stp='{word}'/></network>");
    comes_back(&text("yes"));
    let read = |word: &str| read(&Arc::new(Source::new("a.xml", text(word))));
    let yes = read("yes").definitions.remove(0).definition;
    assert_eq!(yes, read("on").definitions.remove(0).definition);
    let help = read("no").problems.remove(0).help;
    assert!(
        help.as_deref()
            .is_some_and(|help| help.contains("did you mean `off`?")),
        "{help:?}"
    );
}

#[test]
fn a_value_that_was_changed_is_written_as_its_type_writes_it() {
    let text = guest("<vcpu current='01'>02</vcpu>");
    let document = read(&Arc::new(Source::new("a.xml", text)));
    let mut definition = document.definitions[0].definition.clone();
    let vireo_schema::Definition::Domain(domain) = &mut definition else {
        panic!("it is a domain");
    };
    domain.vcpu.as_mut().expect("it is stated").value = Some(8);
    let written = to_xml(&definition, &document.definitions[0].policy);
    assert!(written.contains("<vcpu current='01'>8</vcpu>"), "{written}");
}

#[test]
fn looks_make_no_difference_to_what_is_meant() {
    let of = |text: &str| {
        let document = read(&Arc::new(Source::new("a.xml", guest(text))));
        document.definitions[0].definition.clone()
    };
    assert_eq!(of("<vcpu>02</vcpu>"), of("<vcpu>2</vcpu>"));
    assert_ne!(of("<vcpu>02</vcpu>"), of("<vcpu>3</vcpu>"));
}

#[test]
fn what_belongs_to_others_survives_whole() {
    for metadata in [
        "<metadata/>",
        "<metadata><x:a xmlns:x='urn:x' b='1'><x:c/>text</x:a></metadata>",
        "<metadata><a xmlns='urn:a'><b/><c xmlns='urn:c'><d/></c></a></metadata>",
        "<metadata><p xmlns='urn:p'>one <b>two</b> three <i/> four</p></metadata>",
        "<metadata><a><![CDATA[<not> & read]]></a><b> spaces  kept </b><c>&#9;&#xe4;&lt;</c></metadata>",
        "<metadata><a x:b='1' xmlns:x='urn:x' xmlns:y='urn:y'><c y:d='&quot;&apos;&#10;'/></a></metadata>",
        "<metadata><a><b/><c/><b/></a><a/></metadata>",
        "<metadata><qemu:x xmlns:qemu='urn:mine'>not QEMU's</qemu:x></metadata>",
    ] {
        comes_back(&guest(metadata));
        comes_back(&format!("<network><name>a</name>{metadata}</network>"));
    }
}

#[test]
fn a_prefix_declared_at_the_root_is_declared_where_it_is_used() {
    let text =
        guest("<metadata><o:a o:b='1'/></metadata>").replace("<domain", "<domain xmlns:o='urn:o'");
    for written in back(&text) {
        assert!(
            written.contains("<o:a o:b='1' xmlns:o='urn:o'/>"),
            "{written}"
        );
    }
}

#[test]
fn arguments_handed_on_survive_whole() {
    let namespace = "http://libvirt.org/schemas/domain/qemu/1.0";
    comes_back(
        &guest(
            "<qemu:commandline><qemu:arg value='-device'/><qemu:arg value=' a,b=&quot;c&quot; &amp; &apos;d&apos;&#10;'/>\
             <qemu:arg value=''/><qemu:env name='A' value=''/><qemu:env name='B'/></qemu:commandline>",
        )
        .replace("<domain", &format!("<domain xmlns:qemu='{namespace}'")),
    );
    let under_another_prefix = guest("<q:commandline><q:arg value='-s'/></q:commandline>")
        .replace("<domain", &format!("<domain xmlns:q='{namespace}'"));
    for written in back(&under_another_prefix) {
        assert!(written.contains("<qemu:arg value='-s'/>"), "{written}");
    }
}
