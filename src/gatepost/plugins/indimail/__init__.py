"""IndiMail's plugins, unchanged: qmail-smtpd's (`plugin_init`) and qmail-queue's (`virusscan`)."""

from gatepost.plugins.indimail.loading import Indimail, load_indimail
from gatepost.plugins.indimail.options import IndimailOptions

__all__ = ["Indimail", "IndimailOptions", "load_indimail"]
