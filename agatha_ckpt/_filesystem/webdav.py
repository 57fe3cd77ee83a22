"""WebDAV."""

from agatha_ckpt._filesystem.remote import RemoteFiles


class WebDAVFiles(RemoteFiles):
    """A WebDAV filesystem.

    To delete a folder deletes what is in it, also what another run has just written.
    """

    can_remove_folders = False
