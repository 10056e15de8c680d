(define-module (ui layerfs ajax)
  :use-module (alterator ajax)
  :use-module (alterator woo)
  :export (init))

(define (read-lists)
  (form-update-enum "image" (woo-list "/layerfs/images"))
  (form-update-enum "profile" (woo-list "/layerfs/systems"))
  (form-update-enum "machine" (woo-list "/layerfs/machines")))

(define (read-revisions)
  (form-update-enum "revision" (woo-list "/layerfs/revisions" 'system (form-value "profile"))))

(define (read-state)
  (form-update-value-list '("import_state" "import_step") (woo-read-first "/layerfs")))

(define (do-write object . parameters)
  (catch/message
    (lambda ()
      (apply woo-write (string-append "/layerfs/" object) parameters)
      (read-lists)
      (read-state))))

(define (fetch)
  (do-write "fetch"
            'image (basename (form-value "url"))
            'url (form-value "url")
            'sha256 (form-value "sha256")))

(define (share)
  (do-write "share"
            'image (form-value "image")
            'system (form-value "system")
            'parameters (form-value "parameters")))

(define (rollback)
  (do-write "rollback" 'revision (form-value "revision")))

(define (assign)
  (do-write "assign" 'machine (form-value "machine") 'system (form-value "profile")))

(define (init)
  (read-lists)
  (read-state)
  (form-bind "profile" "change" read-revisions)
  (form-bind "fetch" "click" fetch)
  (form-bind "share" "click" share)
  (form-bind "rollback" "click" rollback)
  (form-bind "assign" "click" assign))
