"""IndiMail's plugins, unchanged: qmail-smtpd's (`plugin_init`) and qmail-queue's (`virusscan`)."""

from gatepost.plugins.indimail.loading import Indimail, load_indimail
from gatepost.plugins.indimail.options import IndimailOptions
from gatepost.plugins.indimail.plugtest import PlugtestError, read_plugtest

__all__ = ["Indimail", "IndimailOptions", "PlugtestError", "load_indimail", "read_plugtest"]
