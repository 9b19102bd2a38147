"""simple-salesforce: its logins, unmodified, by the vendor's own host names through the simulator's proxy."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed

from simulator import PROXY, control, same

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
user = "integration@acme.example"
control("POST", "/apps", {"client_id": "app", "client_secret": "secret", "username": user, "public_key": public})
proxies = {"https": PROXY}


def refused(words, **login):
    try:
        Salesforce(proxies=proxies, **login)
        raise SystemExit(f"{login} was let in")
    except SalesforceAuthenticationFailed as error:
        assert words in str(error), f"{words!r} is not in {error!s}"


# JWT bearer, at the login host and at the org's own.
for domain in ("login", "acme.my"):
    sf = Salesforce(username=user, consumer_key="app", privatekey=private, domain=domain, proxies=proxies, version="65.0")
    same(sf.sf_instance, "acme.my.salesforce.com", "the instance")
    same(sf.query("SELECT Username FROM User WHERE Username = '" + user + "'")["records"][0]["Username"], user, "the session")

# Client credentials: by HTTP Basic, at the org's own host alone.
sf = Salesforce(consumer_key="app", consumer_secret="secret", domain="acme.my", proxies=proxies, version="65.0")
same(sf.query("SELECT COUNT() FROM Account")["totalSize"], 0, "the session of the app")

other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
refused("invalid assertion", username=user, consumer_key="app", privatekey=other, domain="login")
refused("client identifier invalid", username=user, consumer_key="nobody", privatekey=private, domain="login")
refused("user hasn't approved this consumer", username="stranger@acme.example", consumer_key="app", privatekey=private, domain="login")
refused("invalid client credentials", consumer_key="app", consumer_secret="wrong", domain="acme.my")
print("simple-salesforce: logins agree")
