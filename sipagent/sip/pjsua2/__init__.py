"""The engine on PJSIP: `engine` in our process, everything else in a process of its own, where C may abort."""
