"""The files that OpenShift's machine config templates put on a node before any registry resource counts.

Source: machine-config-operator templates/*/01-*-container-runtime, byte for byte. They are the base of
`base: openshift`, and stand in for a policy.json that a host does not have.
"""

REGISTRIES_CONF = b"unqualified-search-registries = ['registry.access.redhat.com', 'docker.io']\n"

POLICY_JSON = b"""{
    "default": [
        {
            "type": "insecureAcceptAnything"
        }
    ],
    "transports":
        {
            "docker-daemon":
                {
                    "": [{"type":"insecureAcceptAnything"}]
                }
        }
}"""
